// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { entry } from "./entry.js";
import { field, form, passwordInput } from "./form.js";

const ADVISED_LENGTH = 15;

export function claimPage(enter, again) {
  const code = h("input", { class: "input setup-code", name: "setup-code", autocomplete: "off", autocapitalize: "characters", spellcheck: "false", required: true, maxlength: 16, placeholder: "XXXXX-XXXXX", "data-focus-first": true });
  const user = h("input", { class: "input", name: "username", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 64 });
  const advice = h("p", {}, t("claim.password.hint"));
  const password = passwordInput({ name: "password", autocomplete: "new-password", minlength: 8, oninput: () => {
    const length = [...password.value].length;
    advice.textContent = length >= ADVISED_LENGTH ? t("claim.password.long") : t("claim.password.hint");
  } });
  const where = h("p", {}, ...sentenceWithCode(t("claim.code.hint"), "scrigno setup-code"));
  const content = form({
    fields: [field(t("claim.code"), code, where), field(t("login.user"), user), field(t("login.password"), password, advice)],
    submit: t("claim.submit"),
    send: async () => {
      await api.claim(code.value, user.value, password.value);
      await enter();
    },
  });
  return entry({ title: t("claim.title"), lead: t("claim.lead"), content, again });
}

/** The sentence with `{command}` set as a command. */
function sentenceWithCode(text, command) {
  const [before, after = ""] = text.split("{command}");
  return [before, h("code", { class: "code-line" }, command), after];
}
