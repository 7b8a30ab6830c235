// SPDX-License-Identifier: Apache-2.0
// One study: its series beside the picture, pictures rendered by the box.

import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { dicomDate, moment, number, personName, t } from "../i18n.js";
import { banner } from "../shell.js";
import { framesOf } from "../viewer/stack.js";
import { Stage } from "../viewer/stage.js";

// centre and width in Hounsfield units
const PRESETS = { abdomen: [60, 400], lung: [-400, 1600], bone: [300, 1500], brain: [40, 80], chest: [40, 400], angio: [300, 600] };

export function renderedViewerPage(parameters) {
  const controller = new AbortController();
  const title = h("h1", {}, t("loading"));
  const subtitle = h("p", {});
  const strip = h("nav", { class: "strip", "aria-label": t("viewer.series") });
  const tools = windowTools((window) => stage.setWindow(window));
  let study = null;
  let current = 0;
  const stage = new Stage({
    windowChanged: (window) => tools.show(window, study?.series[current]?.modality === "CT"),
    stepSeries: (step) => select(current + step),
  });
  const top = banner();
  const root = h("div", { class: "viewer" },
    top.place,
    h("header", { class: "viewer-bar" },
      h("a", { class: "button quiet square", href: "#/list", "aria-label": t("viewer.back") }, icon("back")),
      h("div", { class: "viewer-title" }, title, subtitle),
      tools.root,
      h("a", { class: "button quiet square", href: `${location.hash.replace(/&mode=\w+/, "")}&mode=full`, "aria-label": t("viewer.full"), title: t("viewer.full") }, icon("contrast"))),
    strip,
    stage.root,
  );
  root.classList.toggle("with-banner", top.place.childElementCount > 0);

  function select(index) {
    if (!study || index < 0 || index >= study.series.length) return;
    current = index;
    const series = study.series[index];
    strip.querySelectorAll(".series").forEach((each, i) => {
      each.setAttribute("aria-current", String(i === index));
      if (i === index) each.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    tools.reset();
    stage.open(series, framesOf(series), seriesName(series));
  }

  async function load() {
    const uid = parameters.get("studyinstanceuid") ?? "";
    stage.busy.hidden = false;
    try {
      study = await api.study(uid, controller.signal);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) return;
      stage.busy.hidden = true;
      title.textContent = error.status === 404 ? t("viewer.unknown") : t("viewer.failed");
      const again = error.status === 404 ? [] : [h("button", { class: "button", type: "button", onclick: () => { stage.message.replaceChildren(); load(); } }, icon("reset"), t("again"))];
      stage.tell("alert", error.status === 404 ? t("viewer.unknown.hint") : error.sentence?.() ?? t("problem.unknown"), ...again);
      return;
    }
    stage.busy.hidden = true;
    describe(study.study);
    strip.replaceChildren(h("ul", {}, study.series.map((series, index) => h("li", {}, card(series, () => select(index))))));
    const wanted = parameters.get("seriesinstanceuid");
    const named = study.series.findIndex((series) => series.series_instance_uid === wanted);
    const first = study.series.findIndex((series) => framesOf(series).length);
    select(named >= 0 ? named : Math.max(0, first));
    stage.canvas.focus({ preventScroll: true });
  }

  function describe(row) {
    const [name, other] = personName(row.patient_name);
    title.textContent = name || t("list.noname");
    const sex = row.patient_sex && ["M", "F", "O"].includes(row.patient_sex) ? t(`sex.${row.patient_sex.toLowerCase()}`) : row.patient_sex;
    const verified = row.verified_on ? t("viewer.verified", { time: moment(row.verified_on) }) : t("viewer.unverified");
    const parts = [row.study_description, dicomDate(row.study_date), verified, row.protected && t("list.protected")];
    subtitle.textContent = parts.filter(Boolean).join(" · ");
    subtitle.title = t("viewer.verified.hint");
    const lines = [name, other, row.patient_id, [dicomDate(row.patient_birth_date), sex].filter(Boolean).join(" · "), row.institution_name];
    stage.corners["top-left"].replaceChildren(...lines.filter(Boolean).map((text) => h("div", {}, text)));
  }

  load();
  return { root, stop: () => { controller.abort(); stage.stop(); top.stop(); } };
}

function seriesName(series) {
  const text = series.series_description || series.body_part_examined || t("viewer.unnamed");
  return [series.series_number, text].filter(Boolean).join(" · ");
}

function card(series, onclick) {
  const frames = framesOf(series);
  const middle = frames[Math.floor(frames.length / 2)];
  const thumb = h("div", { class: "thumb" }, middle
    ? h("img", { src: api.frameThumbnail(middle.uid, middle.frame), alt: "", loading: "lazy", decoding: "async", onerror: () => thumb.replaceChildren(series.modality) })
    : series.modality || icon("picture"));
  const count = frames.length || series.number_of_instances;
  return h("button", { class: "series", type: "button", onclick },
    thumb,
    h("span", { class: "series-words" }, h("b", {}, seriesName(series)), h("span", {}, series.modality), h("span", {}, t("viewer.images", { n: count }))));
}

/** Preset, centre and width; hidden for pictures that have no window (colour). */
function windowTools(apply) {
  let window = null;
  const preset = h("select", { class: "input", "aria-label": t("viewer.preset"), onchange: () => {
    const found = PRESETS[preset.value];
    apply(found ? { center: found[0], width: found[1] } : null);
  } });
  const slider = (name) => {
    const output = h("output", {});
    const input = h("input", { type: "range", step: "1", oninput: () => {
      apply({ ...window, [name]: name === "width" ? fromLog(Number(input.value)) : Number(input.value) });
    } });
    return { input, output, label: h("label", {}, h("span", {}, t(`viewer.${name}`)), output, input) };
  };
  const center = slider("center");
  const width = slider("width");
  const reset = h("button", { class: "button quiet square", type: "button", "aria-label": t("viewer.reset"), title: t("viewer.reset"), "aria-keyshortcuts": "Escape", onclick: () => apply(null) }, icon("reset"));
  const root = h("div", { class: "window-tools", role: "group", "aria-label": t("viewer.windowing"), hidden: true }, preset, center.label, width.label, reset);
  let range = null;

  function fill(ct) {
    const names = ct ? Object.keys(PRESETS) : [];
    if (preset.childElementCount === names.length + 2) return;
    preset.replaceChildren(h("option", { value: "" }, t("preset.stored")), ...names.map((name) => h("option", { value: name }, t(`preset.${name}`))), h("option", { value: "own", hidden: true }, t("preset.own")));
    preset.hidden = !ct;
  }

  return {
    root,
    reset: () => { range = null; },
    show: (shown, ct) => {
      window = shown;
      root.hidden = !shown;
      if (!shown) return;
      fill(ct);
      if (!range) {
        range = { low: shown.center - 2 * shown.width, high: shown.center + 2 * shown.width };
        if (ct) range = { low: Math.min(-1024, range.low), high: Math.max(1500, range.high) };
        preset.value = "";
        range.stored = shown;
      }
      center.input.min = String(Math.min(range.low, shown.center));
      center.input.max = String(Math.max(range.high, shown.center));
      center.input.value = String(shown.center);
      center.output.textContent = number(Math.round(shown.center));
      width.input.min = "0";
      width.input.max = "1000";
      width.input.value = String(toLog(shown.width));
      width.output.textContent = number(Math.round(shown.width));
      const same = (each) => Math.abs(each[0] - shown.center) < 0.6 && Math.abs(each[1] - shown.width) < 0.6;
      const named = ct ? Object.entries(PRESETS).find(([, each]) => same(each)) : null;
      const stored = same([range.stored.center, range.stored.width]);
      if (stored) preset.value = "";
      else if (!named || PRESETS[preset.value] === undefined || !same(PRESETS[preset.value])) preset.value = named ? named[0] : "own";
    },
  };
}

// the width spans 1 to 65536: equal steps of the slider are equal ratios
const toLog = (width) => Math.round((Math.log2(Math.max(1, width)) / 16) * 1000);
const fromLog = (value) => Math.max(1, Math.round(2 ** ((value / 1000) * 16)));
