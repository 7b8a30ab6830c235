// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { entry } from "./entry.js";
import { field, form, passwordInput } from "./form.js";
import { afterLogin } from "./steps";

export function loginPage(enter, again, draw) {
  const user = h("input", { class: "input", name: "username", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 64, "data-focus-first": true });
  const password = passwordInput({ name: "password", autocomplete: "current-password" });
  const content = form({
    fields: [field(t("login.user"), user), field(t("login.password"), password)],
    submit: t("login.submit"),
    send: async () => {
      let answer;
      try {
        answer = await api.login(user.value, password.value);
      } catch (error) {
        password.value = "";
        password.focus();
        throw error;
      }
      await afterLogin(answer, { draw, enter, again });
    },
  });
  return entry({ title: "Scrigno", lead: t("login.lead"), content, again });
}
