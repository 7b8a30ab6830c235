// SPDX-License-Identifier: Apache-2.0
// One pane on the page: the picture, what stands in its corners, the slice rail. First the box's
// rendered frame is there, then the engine's full pixels take its place without a jump.

import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { number, t } from "../i18n.js";
import { Cine, rateOf } from "./cine";
import { showDocument } from "./document-view";
import { boot, describe, imageIdOf } from "./engine/boot";
import { Pane } from "./engine/pane";
import { alongNormal } from "./series";
import type { DicomJson, DisplaySet, FrameRef, Window } from "./types";

const CORNERS = ["top-left", "top-right", "bottom-left", "bottom-right"] as const;

export interface PaneEvents {
  activated(view: PaneView): void;
  windowChanged(view: PaneView): void;
  moved(view: PaneView): void;
}

export class PaneView {
  readonly root: HTMLElement;
  readonly corners: Record<(typeof CORNERS)[number], HTMLElement>;
  shown: DisplaySet | null = null;
  window: Window | null = null;
  stored: Window | null = null;
  readonly #events: PaneEvents;
  readonly #place: HTMLDivElement;
  readonly #sheet: HTMLElement;
  #giveBack = () => {};
  readonly #edges: HTMLElement[];
  readonly #first: HTMLImageElement;
  readonly #rail: HTMLInputElement;
  readonly #message: HTMLElement;
  readonly #busy: HTMLElement;
  readonly #cine = new Cine(() => this.#playOn());
  #pane: Pane | null = null;
  #frames: FrameRef[] = [];
  #metadata = new Map<string, DicomJson>();
  #words = "";
  #loading: AbortController | null = null;

  constructor(events: PaneEvents) {
    this.#events = events;
    this.#place = h("div", { class: "picture", tabindex: "0", role: "img" }) as HTMLDivElement;
    this.#sheet = h("div", { class: "document-place", hidden: true });
    this.#first = h("img", { class: "first-picture", alt: "", hidden: true }) as HTMLImageElement;
    this.corners = Object.fromEntries(
      CORNERS.map((name) => [name, h("div", { class: `corner ${name}` })]),
    ) as PaneView["corners"];
    this.#edges = ["top", "right", "bottom", "left"].map((edge) =>
      h("div", { class: `edge ${edge}`, "aria-hidden": "true" }),
    );
    this.#rail = h("input", {
      class: "rail",
      type: "range",
      min: 1,
      step: 1,
      hidden: true,
      "aria-label": t("viewer.slice"),
      oninput: () => void this.go(Number(this.#rail.value) - 1),
    }) as HTMLInputElement;
    this.#message = h("div", { class: "stage-message" });
    this.#busy = h(
      "div",
      { class: "stage-busy", hidden: true },
      h("span", { class: "spinner", role: "status", "aria-label": t("loading") }),
    );
    this.root = h(
      "section",
      { class: "pane" },
      this.#first,
      this.#place,
      this.#sheet,
      Object.values(this.corners),
      this.#edges,
      this.#rail,
      this.#busy,
      this.#message,
    );
    this.root.addEventListener("pointerdown", () => events.activated(this), { capture: true });
    this.#place.addEventListener("focus", () => events.activated(this));
  }

  get index(): number {
    return this.#pane?.index ?? 0;
  }

  get length(): number {
    return this.#frames.length;
  }

  get frame(): FrameRef | undefined {
    return this.#frames[this.index];
  }

  get pane(): Pane | null {
    return this.#pane;
  }

  get playing(): boolean {
    return this.#cine.playing;
  }

  focus(): void {
    this.#place.focus({ preventScroll: true });
  }

  /** The images in order, and where each lies in the patient. */
  slices(): { id: string; position: number[] | null; orientation: number[] | null }[] {
    return this.#frames.map(({ uid, frame }) => {
      const metadata = this.#metadata.get(uid);
      return {
        id: imageIdOf(uid, frame),
        position: numbers(metadata, "00200032"),
        orientation: numbers(metadata, "00200037"),
      };
    });
  }

  metadataOf(uid: string): DicomJson | undefined {
    return this.#metadata.get(uid);
  }

  /** Show a display set; what was shown before goes. */
  async open(study: string, shown: DisplaySet, words: string): Promise<void> {
    this.stop();
    this.shown = shown;
    this.window = this.stored = null;
    this.#words = words;
    this.#message.replaceChildren();
    this.corners["top-right"].textContent = words;
    const controller = new AbortController();
    this.#loading = controller;
    this.#busy.hidden = false;
    if (shown.document) {
      await this.#openDocument(shown, shown.document, controller.signal);
      return;
    }
    this.#sheet.hidden = true;
    this.#showFirst(shown.frames[0]);
    try {
      const [engine, metadata] = await Promise.all([
        boot(),
        api.seriesMetadata(study, shown.series.series_instance_uid, controller.signal) as Promise<
          DicomJson[]
        >,
      ]);
      if (controller.signal.aborted) return;
      this.#metadata = new Map(metadata.map((each) => [text(each, "00080018"), each]));
      this.#frames = this.#sorted(shown.frames);
      const ids = this.#frames.map(({ uid, frame }) => imageIdOf(uid, frame));
      this.#frames.forEach(({ uid }, i) => {
        const each = this.#metadata.get(uid);
        if (each) describe(ids[i] as string, each);
      });
      this.#pane ??= new Pane(engine, this.#place, {
        shown: (index) => this.#arrived(index),
        window: (window) => this.#windowed(window),
        turned: (edges) => this.#turned(edges),
        failed: (index) => this.#failed(index),
      });
      await this.#pane.open(ids, 0);
    } catch (error) {
      if (controller.signal.aborted) return;
      const sentence = (error as { sentence?: () => string }).sentence?.() ?? t("problem.unknown");
      this.tell("alert", sentence, () => void this.open(study, shown, words));
    } finally {
      if (!controller.signal.aborted) this.#busy.hidden = true;
    }
  }

  async #openDocument(shown: DisplaySet, uid: string, signal: AbortSignal): Promise<void> {
    this.#first.hidden = true;
    this.#frames = [];
    this.#rail.hidden = true;
    for (const name of ["bottom-left", "bottom-right"] as const)
      this.corners[name].textContent = "";
    this.#turned([]);
    this.#events.windowChanged(this);
    try {
      this.#giveBack = await showDocument(this.#sheet, uid, signal);
      this.#sheet.hidden = false;
      this.root.dataset.full = "document";
    } catch (error) {
      if (signal.aborted) return;
      const none = (error as { code?: string }).code === "no-document";
      const modality = shown.series.modality;
      const sentence = none
        ? t("viewer.nopicture", { modality })
        : ((error as { sentence?: () => string }).sentence?.() ?? t("problem.unknown"));
      this.tell("picture", sentence);
    } finally {
      if (!signal.aborted) this.#busy.hidden = true;
    }
  }

  /** Say in words why there is no picture. */
  tell(name: string, sentence: string, again?: () => void): void {
    this.#busy.hidden = true;
    this.#first.hidden = true;
    this.#message.replaceChildren(
      icon(name),
      h("p", {}, sentence),
      ...(again
        ? [
            h(
              "button",
              { class: "button", type: "button", onclick: again },
              icon("reset"),
              t("again"),
            ),
          ]
        : []),
    );
  }

  #sorted(frames: FrameRef[]): FrameRef[] {
    if (this.shown?.multiframe) return frames;
    const placed = frames.map((frame) => {
      const metadata = this.#metadata.get(frame.uid);
      return {
        frame,
        position: numbers(metadata, "00200032"),
        orientation: numbers(metadata, "00200037"),
      };
    });
    return alongNormal(placed).map(({ frame }) => frame);
  }

  #showFirst(frame: FrameRef | undefined): void {
    if (!frame) return;
    const longest =
      Math.max(this.root.clientWidth, this.root.clientHeight) * Math.min(devicePixelRatio, 2);
    this.#first.src = api.renderedFrame(
      frame.uid,
      frame.frame,
      Math.min(2048, Math.max(256, Math.round(longest / 256) * 256)),
    );
    this.#first.hidden = false;
  }

  #arrived(index: number): void {
    const position = t("viewer.position", { n: index + 1, total: this.length });
    this.#rail.hidden = this.length < 2;
    this.#rail.max = String(Math.max(1, this.length));
    this.#rail.value = String(index + 1);
    this.#rail.setAttribute("aria-valuetext", position);
    this.corners["bottom-right"].textContent = position;
    this.#place.setAttribute("aria-label", `${this.#words}, ${position}`);
    this.root.dataset.full = String(index + 1);
    this.#message.replaceChildren();
    // the engine has drawn: the rendered frame has done its work
    requestAnimationFrame(() => {
      this.#first.hidden = true;
    });
    this.#events.moved(this);
  }

  #windowed(window: Window | null): void {
    this.window = window;
    this.stored ??= window;
    this.corners["bottom-left"].textContent = window
      ? t("viewer.window", {
          center: number(Math.round(window.center)),
          width: number(Math.round(window.width)),
        })
      : "";
    this.#events.windowChanged(this);
  }

  #turned(edges: string[]): void {
    this.#edges.forEach((edge, i) => {
      edge.textContent = edges[i] ?? "";
    });
  }

  #failed(index: number): void {
    this.tell(
      "alert",
      t("viewer.frame.failed", { n: index + 1 }),
      () => void this.#pane?.go(index),
    );
  }

  async go(index: number): Promise<void> {
    await this.#pane?.go(index);
  }

  async step(images: number): Promise<void> {
    await this.go(this.index + images);
  }

  togglePlay(): void {
    if (this.#cine.playing) this.#cine.stop();
    else this.#cine.play(rateOf(this.#metadata.get(this.frame?.uid ?? "")));
  }

  async #playOn(): Promise<void> {
    if (this.length) await this.go((this.index + 1) % this.length);
  }

  /** Give up what is under way; the pane stays usable. */
  stop(): void {
    this.#loading?.abort();
    this.#giveBack();
    this.#giveBack = () => {};
    this.#cine.stop();
  }

  dispose(): void {
    this.stop();
    this.#pane?.dispose();
    this.#pane = null;
    this.root.remove();
  }
}

function text(metadata: DicomJson, tag: string): string {
  return String(metadata[tag]?.Value?.[0] ?? "");
}

function numbers(metadata: DicomJson | undefined, tag: string): number[] | null {
  const found = metadata?.[tag]?.Value?.map(Number);
  return found?.length && found.every(Number.isFinite) ? found : null;
}
