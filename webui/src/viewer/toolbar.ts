// SPDX-License-Identifier: Apache-2.0
// The bar of tools: a roving tab stop, pressed state, the key of each in its label.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { COMMANDS, type Command, type Desk } from "./commands";

export class Toolbar {
  readonly root: HTMLElement;
  readonly #buttons = new Map<string, HTMLButtonElement>();

  constructor(desk: Desk) {
    const shown = COMMANDS.filter((each) => each.kind !== "hidden");
    this.root = h(
      "div",
      {
        class: "toolbar",
        role: "toolbar",
        "aria-label": t("viewer.tools"),
        onkeydown: (event: KeyboardEvent) => this.#rove(event),
      },
      shown.map((each) => this.#button(each, desk)),
      this.#grids(desk),
    );
    this.#buttons.values().next().value?.setAttribute("tabindex", "0");
  }

  #button(command: Command, desk: Desk): HTMLElement {
    const words = t(`viewer.command.${command.name}`);
    const key = command.keys[0] ?? "";
    const button = h(
      "button",
      {
        class: "tool",
        type: "button",
        tabindex: "-1",
        title: `${words} (${keyWords(key)})`,
        "aria-label": words,
        "aria-keyshortcuts": key === " " ? "Space" : key,
        "aria-pressed": command.kind === "tool" ? "false" : null,
        "data-command": command.name,
        onclick: () => command.run(desk),
      },
      icon(command.icon),
      h("span", {}, words),
    ) as HTMLButtonElement;
    this.#buttons.set(command.name, button);
    return button;
  }

  #grids(desk: Desk): HTMLElement {
    const choices = ["1×1", "1×2", "2×1", "2×2", "2×3", "3×3", "4×4"];
    const pick = h(
      "select",
      {
        class: "input grid-pick",
        "aria-label": t("viewer.layout"),
        onchange: () => {
          const [rows = 1, columns = 1] = (pick as HTMLSelectElement).value.split("×").map(Number);
          desk.grid(rows, columns);
        },
      },
      choices.map((each) => h("option", { value: each }, each)),
    );
    return pick;
  }

  /** Show which tool is picked, which switches are on, and the layout. */
  show({ tool, on, grid }: { tool: string; on: ReadonlySet<string>; grid: string }): void {
    for (const [name, button] of this.#buttons) {
      const pressed = name === tool || on.has(name);
      if (button.hasAttribute("aria-pressed") || on.has(name))
        button.setAttribute("aria-pressed", String(pressed));
      if (!pressed && button.getAttribute("aria-pressed") === "true")
        button.setAttribute("aria-pressed", "false");
    }
    const pick = this.root.querySelector<HTMLSelectElement>(".grid-pick");
    if (pick) pick.value = grid;
  }

  #rove(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...this.#buttons.values()];
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    if (at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = all[(at + step + all.length) % all.length];
    all[at]?.setAttribute("tabindex", "-1");
    next?.setAttribute("tabindex", "0");
    next?.focus();
  }
}

const NAMES: Record<string, string> = {
  " ": "␣",
  Escape: "Esc",
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Backspace: "⌫",
};

/** A key as it is printed on a keyboard. */
export function keyWords(key: string): string {
  const parts = key.split("+");
  const last = parts.pop() ?? "";
  return [...parts, NAMES[last] ?? (last.length === 1 ? last.toUpperCase() : last)].join(" + ");
}
