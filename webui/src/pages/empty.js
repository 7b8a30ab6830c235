// SPDX-License-Identifier: Apache-2.0
// The empty archive: what to type into the first device.

import { h } from "../dom.js";
import { t } from "../i18n.js";

const SVG = "http://www.w3.org/2000/svg";

function drawing() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 132 104");
  svg.setAttribute("class", "empty-picture");
  svg.setAttribute("aria-hidden", "true");
  const shape = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  shape("rect", { x: 22, y: 46, width: 88, height: 50, rx: 10, fill: "currentColor", opacity: 0.14 });
  shape("path", { d: "M22 58a12 12 0 0 1 12-12h64a12 12 0 0 1 12 12v6H22z", fill: "currentColor", opacity: 0.24 });
  shape("circle", { cx: 66, cy: 74, r: 6, fill: "currentColor" });
  shape("path", { d: "M63.500 77h5l1.500 9h-8z", fill: "currentColor" });
  shape("path", { d: "M66 4v28M54 21l12 12 12-12", fill: "none", stroke: "currentColor", "stroke-width": 5, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return svg;
}

export function emptyArchive(status) {
  const provider = status?.providers.find((each) => each.port !== null) ?? status?.providers[0];
  const cell = (name, value) => h("div", {}, h("dt", {}, name), h("dd", { translate: "no" }, value));
  return h("section", { class: "card empty" },
    drawing(),
    h("h2", {}, t("empty.title")),
    h("p", {}, t("empty.how")),
    provider ? h("dl", { class: "address" }, cell(t("empty.ae"), provider.ae_title), cell(t("empty.address"), location.hostname), cell(t("empty.port"), String(provider.port ?? "–"))) : null,
    provider?.unregistered === "hold" ? h("p", { class: "hint" }, t("empty.hold")) : null,
    provider?.unregistered === "reject" ? h("p", { class: "hint" }, t("empty.reject")) : null,
    h("p", { class: "waiting" }, t("empty.waiting")),
  );
}
