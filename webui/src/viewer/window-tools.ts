// SPDX-License-Identifier: Apache-2.0
// Preset, centre and width of the active pane; hidden for pictures that have no window (colour).

import { h, icon } from "../dom.js";
import { number, t } from "../i18n.js";
import { presetsOf } from "./presets";
import type { Window } from "./types";

type Apply = (window: Window | null) => void;

export interface WindowTools {
  root: HTMLElement;
  show(window: Window | null, stored: Window | null, hounsfield: boolean): void;
}

export function windowTools(apply: Apply): WindowTools {
  let now: Window | null = null;
  let names = "";
  const preset = h("select", {
    class: "input",
    "aria-label": t("viewer.preset"),
    onchange: () => apply(presetsOf("CT").find(({ name }) => name === preset.value) ?? null),
  }) as HTMLSelectElement;
  const center = slider("center", (value) => now && apply({ ...now, center: value }));
  const width = slider("width", (value) => now && apply({ ...now, width: fromLog(value) }));
  const reset = h(
    "button",
    {
      class: "button quiet square",
      type: "button",
      "aria-label": t("viewer.reset"),
      title: t("viewer.reset"),
      onclick: () => apply(null),
    },
    icon("reset"),
  );
  const root = h(
    "div",
    { class: "window-tools", role: "group", "aria-label": t("viewer.windowing"), hidden: true },
    preset,
    center.label,
    width.label,
    reset,
  );

  function fill(hounsfield: boolean): void {
    const wanted = presetsOf(hounsfield ? "CT" : "");
    const key = wanted.map(({ name }) => name).join();
    preset.hidden = !wanted.length;
    if (key === names && preset.childElementCount) return;
    names = key;
    preset.replaceChildren(
      h("option", { value: "" }, t("preset.stored")),
      ...wanted.map(({ name }) => h("option", { value: name }, t(`preset.${name}`))),
      h("option", { value: "own", hidden: true }, t("preset.own")),
    );
  }

  return {
    root,
    show(window, stored, hounsfield) {
      now = window;
      root.hidden = !window;
      if (!window) return;
      fill(hounsfield);
      const from = stored ?? window;
      const low = hounsfield ? -1024 : from.center - 2 * from.width;
      const high = hounsfield ? 1500 : from.center + 2 * from.width;
      center.input.min = String(Math.round(Math.min(low, window.center)));
      center.input.max = String(Math.round(Math.max(high, window.center)));
      center.input.value = String(window.center);
      center.output.textContent = number(Math.round(window.center));
      width.input.min = "0";
      width.input.max = "1000";
      width.input.value = String(toLog(window.width));
      width.output.textContent = number(Math.round(window.width));
      const same = (each: Window) =>
        Math.abs(each.center - window.center) < 0.6 && Math.abs(each.width - window.width) < 0.6;
      const named = presetsOf(hounsfield ? "CT" : "").filter(same);
      const kept = named.some(({ name }) => name === preset.value);
      if (stored && same(stored)) preset.value = "";
      else if (!kept) preset.value = named[0]?.name ?? "own";
    },
  };
}

function slider(name: "center" | "width", set: (value: number) => void) {
  const output = h("output", {});
  const input = h("input", {
    type: "range",
    step: "1",
    oninput: () => set(Number(input.value)),
  }) as HTMLInputElement;
  return {
    input,
    output,
    label: h("label", {}, h("span", {}, t(`viewer.${name}`)), output, input),
  };
}

// the width spans 1 to 65536: equal steps of the slider are equal ratios
const toLog = (width: number) => Math.round((Math.log2(Math.max(1, width)) / 16) * 1000);
const fromLog = (value: number) => Math.max(1, Math.round(2 ** ((value / 1000) * 16)));
