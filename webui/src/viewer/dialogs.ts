// SPDX-License-Identifier: Apache-2.0
// What lies above the panes for a while: the attributes of an image, and the keys.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import type { Command } from "./commands";
import { keyWords } from "./toolbar";
import type { DicomJson } from "./types";

function dialog(title: string, ...content: (Node | string)[]): HTMLDialogElement {
  const close = h(
    "button",
    {
      class: "button quiet square",
      type: "button",
      "aria-label": t("close"),
      onclick: () => root.close(),
    },
    icon("close"),
  );
  const root = h(
    "dialog",
    { class: "sheet-dialog", "aria-label": title, onclose: () => root.remove() },
    h("header", {}, h("h2", {}, title), close),
    ...content,
  ) as HTMLDialogElement;
  // shown when it stands in the document
  queueMicrotask(() => root.showModal());
  return root;
}

export function helpDialog(commands: readonly Command[]): HTMLDialogElement {
  const rows = commands
    .filter(({ name }) => !/^preset[1-9]/.test(name))
    .map(({ name, keys }) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, t(`viewer.command.${name.replace(/\d+$/, "")}`)),
        h(
          "td",
          {},
          keys.map((key) => h("kbd", {}, keyWords(key))),
        ),
      ),
    );
  return dialog(t("viewer.command.help"), h("table", { class: "keys" }, h("tbody", {}, rows)));
}

export function tagDialog(metadata: DicomJson): HTMLDialogElement {
  const body = h("tbody", {});
  const search = h("input", {
    class: "input",
    type: "search",
    "aria-label": t("viewer.tags.search"),
    placeholder: t("viewer.tags.search"),
    oninput: () => draw(),
  }) as HTMLInputElement;
  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const rows = lines(metadata).filter(
      (each) => !wanted || each.join(" ").toLowerCase().includes(wanted),
    );
    body.replaceChildren(
      ...rows.map(([tag, vr, value]) =>
        h(
          "tr",
          {},
          h("td", { class: "mono" }, tag),
          h("td", { class: "mono" }, vr),
          h("td", {}, value),
        ),
      ),
    );
  };
  draw();
  return dialog(
    t("viewer.command.tags"),
    search,
    h("div", { class: "tag-lines" }, h("table", { class: "keys" }, body)),
  );
}

const MOST_DEPTH = 6;

function lines(metadata: DicomJson, depth = 0): [string, string, string][] {
  return Object.entries(metadata).flatMap(([tag, { vr, Value }]) => {
    const name = `${" ".repeat(depth)}${tag.slice(0, 4)},${tag.slice(4)}`;
    if (vr !== "SQ")
      return [[name, vr, (Value ?? []).map(written).join(" \\ ")] as [string, string, string]];
    const items =
      depth < MOST_DEPTH
        ? ((Value ?? []) as DicomJson[]).flatMap((item) => lines(item, depth + 1))
        : [];
    return [[name, vr, ""] as [string, string, string], ...items];
  });
}

function written(value: unknown): string {
  if (value && typeof value === "object")
    return Object.values(value as Record<string, string>)
      .filter(Boolean)
      .join(" = ");
  return String(value);
}
