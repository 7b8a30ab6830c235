// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { bytes, duration, has, moment, number, t } from "../i18n.js";
import { currentStatus, isAdministrator, onStatus } from "../state.js";

const STATE_TAG = { online: "good", starting: "", recovering: "warning", suspect: "warning", full: "warning", readonly: "warning", offline: "danger", absent: "danger", foreign: "danger" };
const HEALTH_TAG = { whole: "good", degraded: "danger", failed: "danger", inactive: "danger" };
const NOTICE = { critical: "danger", warning: "warning", notice: "info", info: "info" };

export function dashboardPage(page) {
  const place = h("div", { class: "section" });
  const disks = h("section", { class: "section", "aria-labelledby": "disks" });
  const hardware = h("section", { class: "section", "aria-labelledby": "hardware" });
  page.append(h("div", { class: "page-head" }, h("h1", {}, t("menu.dashboard"))), place, disks, hardware);
  let gone = false;

  const part = async (target, draw) => {
    try {
      const drawn = await draw();
      if (!gone) target.replaceChildren(...drawn);
    } catch (error) {
      if (!error.sentence) throw error;
      if (!gone) target.replaceChildren(h("div", { class: "notice danger" }, icon("alert"), h("p", {}, error.sentence())));
    }
  };
  const draw = () => {
    const status = currentStatus();
    if (!status) return;
    part(place, async () => [attention((await api.alerts()).alerts, draw), totals(status.totals)]);
    part(disks, async () => {
      const { volumes } = await api.volumes();
      return [h("h2", { id: "disks" }, t("dashboard.volumes")), h("ul", { class: "card rows" }, volumes.map(volume))];
    });
    if (isAdministrator()) part(hardware, async () => machine(await api.machine()));
  };
  draw();
  const stop = onStatus(draw);
  return () => { gone = true; stop(); };
}

function attention(alerts, again) {
  const open = alerts.filter((each) => each.level !== "info");
  if (!open.length) return h("div", { class: "notice good" }, icon("approve"), h("p", {}, t("dashboard.well")));
  return h("ul", { class: "section" }, open.map((each) => alert(each, again)));
}

function alert(each, again) {
  const acknowledge = async () => {
    await api.acknowledge(each.id);
    again();
  };
  return h("li", { class: `notice ${NOTICE[each.level]}` }, icon("alert"),
    h("div", { class: "grow" },
      h("p", {}, h("strong", {}, each.summary), " ", each.explanation, " ", each.next_step),
      h("p", { class: "second" }, t("alert.since", { time: moment(each.since) }), each.acknowledged_by ? ` · ${t("alert.acknowledged", { user: each.acknowledged_by })}` : "")),
    isAdministrator() && !each.acknowledged_by ? h("button", { class: "button", type: "button", onclick: acknowledge }, t("alert.acknowledge")) : null);
}

function totals(found) {
  const tile = (name, value) => h("div", { class: "card tile" }, h("dt", {}, name), h("dd", {}, value));
  return h("dl", { class: "tiles" },
    tile(t("dashboard.studies"), number(found.studies)),
    tile(t("dashboard.patients"), number(found.patients)),
    tile(t("dashboard.images"), number(found.instances)),
    tile(t("dashboard.size"), bytes(found.size_bytes)),
  );
}

function volume(each) {
  const known = each.total_bytes !== null && each.free_bytes !== null;
  const used = known ? 1 - each.free_bytes / each.total_bytes : 0;
  const level = used >= 0.95 ? "danger" : used >= 0.85 ? "warning" : "";
  const name = each.paused ? "paused" : each.state;
  const state = has(`volume.${name}`) ? t(`volume.${name}`) : name;
  return h("li", {},
    icon("disk"),
    h("div", { class: "grow" }, h("b", {}, each.name), " ", h("span", { class: "muted" }, t(`volume.role.${each.role}`)), h("span", { class: "second mono" }, each.path),
      each.reason ? h("span", { class: "second" }, each.reason) : null, catchUp(each)),
    known ? h("div", {}, meter(used, level), h("span", { class: "second" }, t("volume.free", { free: bytes(each.free_bytes), total: bytes(each.total_bytes) }))) : null,
    each.objects_owed ? h("span", { class: "tag warning" }, t("volume.owed", { n: each.objects_owed })) : null,
    h("span", { class: `tag ${each.paused ? "warning" : STATE_TAG[each.state] ?? ""}` }, state),
  );
}

function meter(share, level) {
  const fill = h("i", {});
  fill.style.width = `${Math.round(share * 100)}%`;
  return h("div", { class: `meter ${level}`, "aria-hidden": "true" }, fill);
}

function catchUp(each) {
  const progress = each.catch_up;
  if (!progress || !["verifying", "copying"].includes(progress.state) || !progress.bytes_per_s) return null;
  const all = progress.done_bytes + progress.owed_bytes;
  if (!all || progress.left_s === null) return null;
  const percent = number(progress.done_bytes / all, { style: "percent" });
  return h("span", { class: "second" }, t("volume.catchup", { percent, rate: bytes(progress.bytes_per_s), left: duration(progress.left_s) }));
}

function machine(found) {
  const rows = [...found.arrays.map(array), ...found.disks.map(disk)];
  if (!rows.length) return [];
  return [h("h2", { id: "hardware" }, t("dashboard.hardware")), h("ul", { class: "card rows" }, rows)];
}

function array(each) {
  const here = each.wanted - each.degraded;
  return h("li", {}, icon("disk"),
    h("div", { class: "grow" }, h("b", {}, each.name), h("span", { class: "second" }, t("array.members", { level: each.level, here, wanted: each.wanted }))),
    each.progress ? h("div", {}, meter(each.progress.percent / 100, "warning"), h("span", { class: "second" }, number(each.progress.percent / 100, { style: "percent" }))) : null,
    h("span", { class: `tag ${HEALTH_TAG[each.health] ?? ""}` }, t(`array.${each.health}`)));
}

function disk(each) {
  const heat = each.temperature_c === null ? null : number(each.temperature_c, { style: "unit", unit: "celsius" });
  return h("li", {}, icon("disk"),
    h("div", { class: "grow" }, h("b", {}, each.model || each.device), h("span", { class: "second" }, [each.model ? each.device : "", each.serial ? t("disk.serial", { serial: each.serial }) : ""].filter(Boolean).join(" · "))),
    heat ? h("span", { class: "muted" }, heat) : null,
    each.passed === null ? null : h("span", { class: `tag ${each.passed ? "good" : "danger"}` }, t(each.passed ? "disk.well" : "disk.failing")));
}
