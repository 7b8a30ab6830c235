// SPDX-License-Identifier: Apache-2.0
// What may come between the right password and the pages: a code, a new app, a new password.

import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { entry } from "./entry.js";
import { field, form, passwordInput } from "./form.js";

interface Unfinished {
  step?: "second-factor" | "enrol-second-factor" | "new-password";
  ticket?: string;
  methods?: string[];
  recovery_codes?: string[];
}

type Draw = (page: HTMLElement) => void;

/** Go on from the answer to a log-in: show the next step in place, or enter. */
export async function afterLogin(
  answer: Unfinished,
  { draw, enter, again }: { draw: Draw; enter: () => Promise<void>; again: () => void },
): Promise<void> {
  const next = (more: Unfinished) => afterLogin(more, { draw, enter, again });
  const ticket = answer.ticket ?? "";
  if (answer.recovery_codes?.length) {
    const codes = answer.recovery_codes;
    draw(recoveryPage(codes, () => next({ ...answer, recovery_codes: [] }), again));
  } else if (answer.step === "second-factor") draw(codePage(ticket, next, again));
  else if (answer.step === "enrol-second-factor") draw(await enrolPage(ticket, next, again));
  else if (answer.step === "new-password") draw(newPasswordPage(ticket, next, again));
  else await enter();
}

type Next = (answer: Unfinished) => Promise<void>;

function codeInput(): HTMLInputElement {
  return h("input", {
    class: "input setup-code",
    name: "one-time-code",
    autocomplete: "one-time-code",
    inputmode: "text",
    spellcheck: "false",
    required: true,
    maxlength: 64,
    "data-focus-first": true,
  }) as HTMLInputElement;
}

/** Six digits are of the app; anything longer is a recovery code. */
function codePage(ticket: string, next: Next, again: () => void): HTMLElement {
  const code = codeInput();
  const content = form({
    fields: [field(t("login.code"), code, h("p", {}, t("login.code.hint")))],
    submit: t("login.submit"),
    send: async () => {
      const text = code.value.replace(/\s/g, "");
      const body = /^\d{6,8}$/.test(text) ? { code: text } : { recovery_code: code.value.trim() };
      await next(await api.secondFactor({ ticket, ...body }));
    },
  });
  return entry({ title: t("login.code.title"), lead: t("login.code.lead"), content, again });
}

async function enrolPage(ticket: string, next: Next, again: () => void): Promise<HTMLElement> {
  const made = await api.enrol(ticket);
  const code = codeInput();
  const content = form({
    fields: [
      h("img", {
        class: "qr",
        alt: t("login.enrol.qr"),
        src: `data:image/svg+xml,${encodeURIComponent(made.qr)}`,
      }),
      h("p", {}, t("login.enrol.secret"), " ", h("code", { class: "code-line" }, made.secret)),
      field(t("login.code"), code),
    ],
    submit: t("login.submit"),
    send: async () => {
      await next(await api.confirmEnrol({ ticket, code: code.value.replace(/\s/g, "") }));
    },
  });
  return entry({ title: t("login.enrol.title"), lead: t("login.enrol.lead"), content, again });
}

function newPasswordPage(ticket: string, next: Next, again: () => void): HTMLElement {
  const fresh = passwordInput({ name: "password", autocomplete: "new-password", minlength: 8 });
  const content = form({
    fields: [field(t("profile.password.new"), fresh, h("p", {}, t("claim.password.hint")))],
    submit: t("profile.password.submit"),
    send: async () => next(await api.newPassword({ ticket, new: fresh.value })),
  });
  const title = t("login.newpassword.title");
  return entry({ title, lead: t("login.newpassword.lead"), content, again });
}

function recoveryPage(codes: string[], go: () => Promise<void>, again: () => void): HTMLElement {
  const content = form({
    fields: [
      h(
        "ul",
        { class: "recovery" },
        codes.map((code) => h("li", { class: "mono" }, code)),
      ),
    ],
    submit: t("login.recovery.done"),
    send: go,
  });
  return entry({
    title: t("login.recovery.title"),
    lead: t("login.recovery.lead"),
    content,
    again,
  });
}
