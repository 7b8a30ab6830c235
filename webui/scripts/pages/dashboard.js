// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { bytes, has, number, t } from "../i18n.js";
import { currentStatus, onStatus } from "../state.js";

const STATE_TAG = { online: "good", starting: "", recovering: "warning", suspect: "warning", full: "warning", readonly: "warning", offline: "danger", absent: "danger", foreign: "danger" };

export function dashboardPage(page) {
  const place = h("div", { class: "section" });
  const disks = h("section", { class: "section", "aria-labelledby": "disks" });
  page.append(h("div", { class: "page-head" }, h("h1", {}, t("menu.dashboard"))), place, disks);
  let gone = false;

  const draw = async () => {
    const status = currentStatus();
    if (!status) return;
    place.replaceChildren(health(status), totals(status.totals));
    try {
      const { volumes } = await api.volumes();
      if (!gone) disks.replaceChildren(h("h2", { id: "disks" }, t("dashboard.volumes")), h("ul", { class: "card rows" }, volumes.map(volume)));
    } catch (error) {
      if (!gone && error.sentence) disks.replaceChildren(h("div", { class: "notice danger" }, icon("alert"), h("p", {}, error.sentence())));
    }
  };
  draw();
  const stop = onStatus(draw);
  return () => { gone = true; stop(); };
}

function health(status) {
  if (!status.conditions.length) return h("div", { class: "notice good" }, icon("approve"), h("p", {}, t("dashboard.well")));
  const kind = { critical: "danger", warning: "warning", notice: "info", info: "info" };
  return h("ul", { class: "section" }, status.conditions.map((each) =>
    h("li", { class: `notice ${kind[each.level]}` }, icon("alert"), condition(each))));
}

function condition(each) {
  return h("p", {}, h("strong", {}, each.summary), " ", each.explanation, " ", each.next_step);
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
  const fill = h("i", {});
  fill.style.width = `${Math.round(used * 100)}%`;
  const level = used >= 0.95 ? "danger" : used >= 0.85 ? "warning" : "";
  const state = has(`volume.${each.state}`) ? t(`volume.${each.state}`) : each.state;
  return h("li", {},
    icon("disk"),
    h("div", { class: "grow" }, h("b", {}, each.name), " ", h("span", { class: "muted" }, t(`volume.role.${each.role}`)), h("span", { class: "second mono" }, each.path), each.reason ? h("span", { class: "second" }, each.reason) : null),
    known ? h("div", {}, h("div", { class: `meter ${level}`, "aria-hidden": "true" }, fill), h("span", { class: "second" }, t("volume.free", { free: bytes(each.free_bytes), total: bytes(each.total_bytes) }))) : null,
    each.objects_owed ? h("span", { class: "tag warning" }, t("volume.owed", { n: each.objects_owed })) : null,
    h("span", { class: `tag ${STATE_TAG[each.state] ?? ""}` }, state),
  );
}
