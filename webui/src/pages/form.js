// SPDX-License-Identifier: Apache-2.0
// What the small forms share: fields with labels, a password that can be shown, one place for errors.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";

let serial = 0;

/** A labelled field; `hint` stands below it. */
export function field(label, input, hint = null) {
  serial += 1;
  input.id = `field-${serial}`;
  if (hint) {
    hint.id = `hint-${serial}`;
    input.setAttribute("aria-describedby", hint.id);
    hint.classList.add("hint");
  }
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input.closest(".with-button") ?? input, hint);
}

/** A password input with a button that shows what was typed. */
export function passwordInput(attributes) {
  const input = h("input", { class: "input", type: "password", required: true, maxlength: 128, ...attributes });
  const show = h("button", { class: "button quiet square", type: "button", "aria-label": t("password.show"), "aria-pressed": "false", onclick: () => {
    const visible = input.type === "password";
    input.type = visible ? "text" : "password";
    show.setAttribute("aria-pressed", String(visible));
  } }, icon("eye"));
  h("div", { class: "with-button" }, input, show);
  return input;
}

/** A form that sends once at a time and shows a refusal in words. */
export function form({ fields, submit, send, attributes = {} }) {
  const place = h("div", { role: "alert" });
  const words = h("span", {}, submit);
  const button = h("button", { class: "button primary", type: "submit" }, words);
  const tell = (kind, text) => place.replaceChildren(h("div", { class: `notice ${kind}` }, icon(kind === "good" ? "approve" : "alert"), h("p", {}, text)));
  const element = h("form", { ...attributes, onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    button.replaceChildren(h("span", { class: "spinner", "aria-hidden": "true" }), words);
    place.replaceChildren();
    try {
      await send(tell);
    } catch (error) {
      if (!error.sentence) throw error;
      tell("danger", error.sentence());
    } finally {
      button.disabled = false;
      button.replaceChildren(words);
    }
  } }, fields, place, button);
  return element;
}
