// SPDX-License-Identifier: Apache-2.0
import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { currentStatus, onStatus } from "../state.js";

export function aboutPage(page) {
  const version = h("p", { class: "mono muted" });
  const draw = () => {
    const status = currentStatus();
    version.textContent = status ? t("about.version", { version: status.version }) : "";
  };
  draw();
  page.append(
    h("div", { class: "page-head" }, h("h1", {}, t("menu.about"))),
    h("section", { class: "card sheet about" },
      h("img", { src: "images/icon.svg", alt: "" }),
      h("div", {}, h("h2", {}, "Scrigno"), version),
      h("p", {}, t("about.promise")),
      h("div", { class: "notice warning" }, icon("alert"), h("p", {}, t("notice.diagnostic"))),
      h("p", { class: "muted" }, t("about.licence")),
    ),
  );
  return onStatus(draw);
}
