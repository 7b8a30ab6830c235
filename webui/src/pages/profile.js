// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { languagePick } from "../shell.js";
import { currentSession } from "../state.js";
import { field, form, passwordInput } from "./form.js";

export function profilePage(page, { again }) {
  const old = passwordInput({ autocomplete: "current-password" });
  const fresh = passwordInput({ autocomplete: "new-password", minlength: 8 });
  const content = form({
    attributes: { class: "form" },
    fields: [
      h("h2", {}, t("profile.password")),
      h("input", { type: "text", class: "visually-hidden", autocomplete: "username", ".value": currentSession().user.name, tabindex: "-1", "aria-hidden": "true", readonly: true }),
      field(t("profile.password.old"), old),
      field(t("profile.password.new"), fresh, h("p", {}, t("claim.password.hint"))),
    ],
    submit: t("profile.password.submit"),
    send: async (tell) => {
      await api.setPassword(old.value, fresh.value);
      old.value = "";
      fresh.value = "";
      tell("good", t("profile.password.done"));
    },
  });
  page.append(
    h("div", { class: "page-head" }, h("h1", {}, t("menu.profile"))),
    h("section", { class: "card sheet form" }, h("h2", {}, t("language")), languagePick(again)),
    h("section", { class: "card sheet" }, content),
  );
}
