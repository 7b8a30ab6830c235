// SPDX-License-Identifier: Apache-2.0
// The door of a link for guests: what it asks for, then its studies.

import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { entry } from "./entry.js";
import { field, form, passwordInput } from "./form.js";

const GATES = {
  password: () => passwordInput({ name: "secret", autocomplete: "off", "data-focus-first": true }),
  "birth-date": () => h("input", { class: "input", type: "date", name: "secret", required: true, "data-focus-first": true }),
};

/** Draw the gate of a link, or go in when there is none; `inside` hears the answer. */
export async function sharedPage(token, { show, inside, again }) {
  const draw = (lead, content = null) => show(entry({ title: "Scrigno", lead, content, again }));
  const enter = async (secret = "") => inside(await api.enterShared(token, secret));
  try {
    const { gate } = await api.lookAtShared(token);
    const made = GATES[gate];
    if (!made) {
      await enter();
      return;
    }
    const input = made();
    draw(t(`shared.${gate}.lead`), form({
      fields: [field(t(`shared.${gate}`), input)],
      submit: t("shared.open"),
      send: () => enter(input.value),
    }));
  } catch (error) {
    if (!error.sentence) throw error;
    draw(error.sentence());
  }
}
