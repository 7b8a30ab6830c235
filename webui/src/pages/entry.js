// SPDX-License-Identifier: Apache-2.0
// The page before the pages: brand, a form, the language, the notice.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { languagePick } from "../shell.js";

export function entry({ title, lead, content, again }) {
  return h("div", { class: "entry" },
    h("div", { class: "entry-top" }, languagePick(again)),
    h("main", { class: "entry-box card" },
      h("div", { class: "entry-brand" }, h("img", { src: "images/icon.svg", alt: "" }), h("h1", {}, title), lead ? h("p", { class: "muted" }, lead) : null),
      content,
    ),
    h("footer", { class: "entry-foot" }, t("notice.diagnostic")),
  );
}
