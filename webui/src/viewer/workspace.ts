// SPDX-License-Identifier: Apache-2.0
// The panes side by side and what commands do to them. Knows no pages.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import type { Desk } from "./commands";
import {
  marks,
  pickedMarks,
  redoMark,
  referenceLines,
  removeMark,
  type ToolName,
  undoMark,
  use,
} from "./engine/tools";
import { PaneView } from "./pane-view";
import { PlanesView, refusal } from "./planes-view";
import { presetsOf } from "./presets";
import type { DisplaySet, Window } from "./types";

const MOST_PANES = 16;

export interface WorkspaceEvents {
  /** These panes show nothing yet. */
  emptied(views: readonly PaneView[]): void;
  /** The active pane, its series, its window or its place has changed. */
  changed(): void;
  /** Tell whether a mark is the reader's own; those of others stay. */
  isOwn(mark: string): boolean;
  /** The images of a series are known now. */
  described(): void;
  /** Something cannot be done; `key` names the text that says why. */
  refused(key: string): void;
  seriesWanted(step: number): void;
  tagsWanted(): void;
  helpWanted(): void;
  /** Pictures of the box instead of full pixels. */
  lighterWanted(): void;
  keyImageToggled(uid: string, frame: number): void;
}

export class Workspace implements Desk {
  readonly root: HTMLElement;
  tool: ToolName = "window";
  linked = false;
  lines = false;
  rows = 1;
  columns = 1;
  #events: WorkspaceEvents;
  readonly #views: PaneView[] = [];
  #planes: PlanesView | null = null;
  #active = 0;
  #study = "";

  constructor(events: WorkspaceEvents) {
    this.#events = { ...events, changed: () => {}, emptied: () => {} }; // nobody hears before it is whole
    this.root = h(
      "main",
      { class: "stage panes" },
      h("p", { class: "notice-line" }, t("notice.short")),
    );
    this.grid(1, 1);
    this.#events = events;
  }

  get views(): readonly PaneView[] {
    return this.#views;
  }

  get active(): PaneView {
    return this.#views[this.#active] as PaneView;
  }

  open(study: string): void {
    this.#study = study;
  }

  /** Show a display set in a pane, the active one if none is named. */
  async show(shown: DisplaySet, words: string, view: PaneView = this.active): Promise<void> {
    this.activate(view);
    await view.open(this.#study, shown, words);
    this.#events.described();
    this.#events.changed();
  }

  activate(view: PaneView): void {
    const index = this.#views.indexOf(view);
    if (index < 0) return;
    this.#active = index;
    if (this.lines) this.#drawLines();
    for (const each of this.#views)
      each.root.toggleAttribute("data-active", each === view && this.#views.length > 1);
    this.#events.changed();
  }

  grid(rows: number, columns: number): void {
    const wanted = Math.min(MOST_PANES, rows * columns);
    this.rows = rows;
    this.columns = columns;
    this.root.style.setProperty("--rows", String(rows));
    this.root.style.setProperty("--columns", String(columns));
    this.root.removeAttribute("data-full");
    while (this.#views.length > wanted) this.#views.pop()?.dispose();
    while (this.#views.length < wanted) {
      const view = new PaneView({
        activated: (each) => this.activate(each),
        windowChanged: (each) => this.#windowChanged(each),
        moved: (each) => this.#moved(each),
      });
      this.#views.push(view);
      this.root.append(view.root);
    }
    this.activate(this.#views[Math.min(this.#active, wanted - 1)] as PaneView);
    this.#events.emptied(this.#views.filter((view) => !view.shown));
  }

  #windowChanged(view: PaneView): void {
    if (view === this.active) this.#events.changed();
  }

  #drawLines(): void {
    const source = this.active.pane;
    referenceLines(this.lines && source ? source.id : null);
    for (const view of this.#views) view.pane?.render();
  }

  /** Linked panes follow by the share of the way through their stacks. */
  #moved(view: PaneView): void {
    if (view !== this.active) return;
    if (this.linked && view.length > 1) {
      const share = view.index / (view.length - 1);
      for (const each of this.#views) {
        if (each !== view && each.length > 1) void each.go(Math.round(share * (each.length - 1)));
      }
    }
    this.#events.changed();
  }

  pickTool(name: ToolName): void {
    this.tool = name;
    use(name);
    this.#events.changed();
  }

  step(images: number): void {
    void this.active.step(images);
  }

  goTo(image: "first" | "last"): void {
    void this.active.go(image === "first" ? 0 : this.active.length - 1);
  }

  jump(twentieths: number): void {
    this.step(Math.round((this.active.length / 20) * twentieths));
  }

  stepSeries(series: number): void {
    this.#events.seriesWanted(series);
  }

  nextPane(panes: number): void {
    const count = this.#views.length;
    const next = this.#views[(this.#active + panes + count) % count] as PaneView;
    this.activate(next);
    next.focus();
  }

  turn(change: Parameters<Desk["turn"]>[0]): void {
    this.active.pane?.turn(change);
  }

  reset(): void {
    this.active.pane?.reset();
    this.#events.changed();
  }

  setWindow(window: Window | null): void {
    this.active.pane?.setWindow(window);
    if (window) this.#planes?.setWindow(window);
  }

  preset(number: number): void {
    const found = presetsOf(this.active.shown?.series.modality ?? "")[number - 1];
    if (number === 0) this.setWindow(this.active.stored);
    else if (found) this.setWindow(found);
  }

  togglePlay(): void {
    this.active.togglePlay();
    this.#events.changed();
  }

  toggleOverlays(): void {
    this.root.toggleAttribute("data-bare");
  }

  toggleReferenceLines(): void {
    this.lines = !this.lines;
    this.#drawLines();
    this.#events.changed();
  }

  toggleLink(): void {
    this.linked = !this.linked;
    this.#events.changed();
  }

  toggleFull(): void {
    this.root.toggleAttribute("data-full");
    for (const each of this.#views)
      each.root.hidden = this.root.hasAttribute("data-full") && each !== this.active;
  }

  togglePlanes(): void {
    if (this.#planes) {
      this.#planes.dispose();
      this.#planes = null;
      this.#events.changed();
      return;
    }
    const slices = this.active.slices();
    const refused = refusal(slices);
    if (refused) {
      this.#events.refused(`viewer.planes.${refused}`);
      return;
    }
    const planes = new PlanesView(() => this.togglePlanes());
    this.#planes = planes;
    this.root.append(planes.root);
    const ids = slices.map(({ id }) => id);
    planes.open(ids, this.active.window).catch(() => {
      if (this.#planes === planes) this.togglePlanes();
      this.#events.refused("viewer.planes.failed");
    });
    this.#events.changed();
  }

  get planes(): boolean {
    return this.#planes !== null;
  }

  deleteMark(): void {
    const own = marks().flatMap(({ annotationUID: id }) =>
      id && this.#events.isOwn(id) ? id : [],
    );
    const picked = pickedMarks().filter((id) => own.includes(id));
    const gone = picked.length ? picked : own.slice(-1);
    for (const id of gone) removeMark(id);
    if (gone.length) for (const view of this.#views) view.pane?.render();
  }

  undo(): void {
    undoMark();
    for (const view of this.#views) view.pane?.render();
  }

  redo(): void {
    redoMark();
    for (const view of this.#views) view.pane?.render();
  }

  keyImage(): void {
    const frame = this.active.frame;
    if (frame) this.#events.keyImageToggled(frame.uid, frame.frame);
  }

  tags(): void {
    this.#events.tagsWanted();
  }

  lighter(): void {
    this.#events.lighterWanted();
  }

  help(): void {
    this.#events.helpWanted();
  }

  dispose(): void {
    this.#planes?.dispose();
    for (const view of this.#views.splice(0)) view.dispose();
    this.root.remove();
  }
}
