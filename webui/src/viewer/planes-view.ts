// SPDX-License-Identifier: Apache-2.0
// Three planes of the active series over the panes, until they are closed.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { boot } from "./engine/boot";
import { type Blend, PLANES, type Plane, Planes } from "./engine/planes";
import type { Window } from "./types";

const FEWEST_SLICES = 5;
const SLAB_MM = 10;

/** Why a series has no planes, or null when it has. */
export function refusal(
  slices: readonly { position: number[] | null; orientation: number[] | null }[],
): "few" | "unplaced" | null {
  if (slices.length < FEWEST_SLICES) return "few";
  const first = slices[0]?.orientation;
  const parallel = slices.every(
    ({ position, orientation }) =>
      position && orientation?.every((value, i) => Math.abs(value - (first?.[i] ?? 9)) < 1e-3),
  );
  return parallel ? null : "unplaced";
}

export class PlanesView {
  readonly root: HTMLElement;
  readonly #places: Record<Plane, HTMLDivElement>;
  readonly #busy = h(
    "div",
    { class: "stage-busy" },
    h("span", { class: "spinner", role: "status", "aria-label": t("loading") }),
  );
  #planes: Planes | null = null;
  #observer: ResizeObserver | null = null;

  constructor(close: () => void) {
    const places = PLANES.map(
      (plane) =>
        h("div", {
          class: "picture",
          role: "img",
          "aria-label": t(`viewer.plane.${plane}`),
        }) as HTMLDivElement,
    );
    this.#places = Object.fromEntries(PLANES.map((plane, i) => [plane, places[i]])) as Record<
      Plane,
      HTMLDivElement
    >;
    const slab = h(
      "select",
      {
        class: "input",
        "aria-label": t("viewer.slab"),
        onchange: () => this.#planes?.setSlab((slab as HTMLSelectElement).value as Blend, SLAB_MM),
      },
      (["thin", "mip", "minip", "mean"] as const).map((each) =>
        h("option", { value: each }, t(`viewer.slab.${each}`, { mm: SLAB_MM })),
      ),
    );
    this.root = h(
      "section",
      { class: "planes", "aria-label": t("viewer.command.planes") },
      PLANES.map((plane) =>
        h(
          "div",
          { class: "pane" },
          this.#places[plane],
          h("div", { class: "corner top-left" }, t(`viewer.plane.${plane}`)),
        ),
      ),
      h(
        "div",
        { class: "planes-bar" },
        slab,
        h(
          "button",
          { class: "button", type: "button", onclick: close },
          icon("close"),
          t("viewer.planes.close"),
        ),
      ),
      this.#busy,
    );
  }

  async open(imageIds: string[], window: Window | null): Promise<void> {
    const engine = await boot();
    this.#planes = new Planes(engine, this.#places);
    this.#observer = new ResizeObserver(() => this.#planes?.resize());
    this.#observer.observe(this.root);
    await this.#planes.open(imageIds, window);
    this.#busy.hidden = true;
    this.root.dataset.ready = "yes";
  }

  setWindow(window: Window): void {
    this.#planes?.setWindow(window);
  }

  dispose(): void {
    this.#observer?.disconnect();
    this.#planes?.dispose();
    this.root.remove();
  }
}
