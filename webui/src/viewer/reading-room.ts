// SPDX-License-Identifier: Apache-2.0
// The viewer's page: title, tools, series strip and panes put together for one study.

import * as api from "../api.js";
import { h, icon, speak } from "../dom.js";
import { dicomDate, moment, personName, t } from "../i18n.js";
import { banner } from "../shell.js";
import { may } from "../state.js";
import type { SaveState } from "./autosave";
import { COMMANDS, commandOf } from "./commands";
import { helpDialog, tagDialog } from "./dialogs";
import type { PaneView } from "./pane-view";
import { ReadingMarks } from "./reading-marks";
import { displaySets } from "./series";
import { Toolbar } from "./toolbar";
import type { DisplaySet, Series } from "./types";
import { windowTools } from "./window-tools";
import { Workspace } from "./workspace";

interface Loaded {
  // one line of the list, as the box answers it
  study: Record<string, never> & { study_instance_uid: string };
  series: Series[];
}

const DRAGGED = "application/x-scrigno-series";

export function readingRoom(parameters: Map<string, string>): {
  root: HTMLElement;
  stop: () => void;
} {
  const controller = new AbortController();
  const title = h("h1", {}, t("loading"));
  const subtitle = h("p", {});
  const strip: HTMLElement = h("nav", { class: "strip", "aria-label": t("viewer.series") });
  const top = banner();
  let sets: DisplaySet[] = [];
  let patient: string[] = [];
  let marks: ReadingMarks | null = null;
  const saved = h("span", { class: "saved", role: "status" });

  const workspace = new Workspace({
    changed: () => redraw(),
    emptied: (views) => fill(views),
    refused: (key) => toast(t(key)),
    seriesWanted: (step) => {
      const at = sets.indexOf(workspace.active.shown as DisplaySet);
      select(at + step);
    },
    tagsWanted: () => {
      const view = workspace.active;
      const metadata = view.frame && view.metadataOf(view.frame.uid);
      if (metadata) root.append(tagDialog(metadata));
    },
    helpWanted: () => root.append(helpDialog(COMMANDS)),
    lighterWanted: () => {
      location.hash = `${location.hash.replace(/&mode=\w+/, "")}&mode=rendered`;
    },
    isOwn: (mark) => marks?.isOwn(mark) ?? true,
    described: () => marks?.described(),
    keyImageToggled: (uid, frame) => {
      marks?.toggleKey(uid, frame);
      speak(t(marks?.isKey(uid, frame) ? "viewer.key.on" : "viewer.key.off"));
    },
  });
  const tools = windowTools((window) => workspace.setWindow(window ?? workspace.active.stored));
  const toolbar = new Toolbar(workspace);
  const root = h(
    "div",
    { class: "viewer full" },
    top.place,
    h(
      "header",
      { class: "viewer-bar" },
      h(
        "a",
        { class: "button quiet square", href: "#/list", "aria-label": t("viewer.back") },
        icon("back"),
      ),
      h("div", { class: "viewer-title" }, title, subtitle),
      saved,
      tools.root,
    ),
    toolbar.root,
    strip,
    workspace.root,
  );
  root.classList.toggle("with-banner", top.place.childElementCount > 0);

  /** A sentence that goes by itself; nothing flashes beside an image. */
  function toast(sentence: string): void {
    speak(sentence);
    const shown = h("p", { class: "toast" }, sentence);
    root.append(shown);
    setTimeout(() => shown.remove(), 5000);
  }

  function redraw(): void {
    if (controller.signal.aborted) return; // the last save comes after the page has gone
    const view = workspace.active;
    const on = new Set<string>();
    if (view.frame && marks?.isKey(view.frame.uid, view.frame.frame)) on.add("keyimage");
    if (view.playing) on.add("play");
    if (workspace.planes) on.add("planes");
    if (workspace.linked) on.add("link");
    if (workspace.lines) on.add("lines");
    toolbar.show({ tool: workspace.tool, on, grid: `${workspace.rows}×${workspace.columns}` });
    tools.show(view.window, view.stored, view.shown?.series.modality === "CT");
    [...strip.querySelectorAll(".series")].forEach((each, index) => {
      each.setAttribute("aria-current", String(sets[index] === view.shown));
    });
  }

  function select(index: number, view: PaneView = workspace.active): void {
    const shown = sets[index];
    if (!shown) return;
    view.corners["top-left"].replaceChildren(...patient.map((line) => h("div", {}, line)));
    void workspace.show(shown, seriesWords(shown.series), view);
    strip
      .querySelectorAll(".series")
      [index]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Give panes that show nothing the series that come next. */
  function fill(views: readonly PaneView[]): void {
    const before = workspace.active;
    const free = sets.filter((shown) => !workspace.views.some((view) => view.shown === shown));
    views.forEach((view, i) => {
      const shown = free[i];
      if (shown) select(sets.indexOf(shown), view);
    });
    workspace.activate(before);
  }

  async function load(): Promise<void> {
    const uid = parameters.get("studyinstanceuid") ?? "";
    let found: Loaded;
    try {
      found = (await api.study(uid, controller.signal)) as unknown as Loaded;
    } catch (error) {
      const refused = error as { name: string; status?: number; sentence?: () => string };
      if (refused.name === "AbortError" || refused.status === 401) return;
      const unknown = refused.status === 404;
      title.textContent = unknown ? t("viewer.unknown") : t("viewer.failed");
      const sentence = unknown
        ? t("viewer.unknown.hint")
        : (refused.sentence?.() ?? t("problem.unknown"));
      workspace.active.tell("alert", sentence, unknown ? undefined : () => void load());
      return;
    }
    describeStudy(found.study);
    void openMarks(found.study.study_instance_uid);
    workspace.open(found.study.study_instance_uid);
    sets = found.series.flatMap((series) => displaySets(series));
    strip.replaceChildren(
      h(
        "ul",
        {},
        sets.map((shown, index) => h("li", {}, card(shown, index))),
      ),
    );
    if (!sets.length) {
      workspace.active.tell(
        "picture",
        t("viewer.nopicture", { modality: found.series[0]?.modality ?? "" }),
      );
      return;
    }
    const wanted = parameters.get("seriesinstanceuid");
    select(
      Math.max(
        0,
        sets.findIndex((shown) => shown.series.series_instance_uid === wanted),
      ),
    );
    workspace.active.focus();
  }

  /** What was drawn before is there again, and what is drawn now is kept. */
  async function openMarks(uid: string): Promise<void> {
    const opened = new ReadingMarks(uid, {
      saving: (state) => told(state),
      changed: () => redraw(),
    });
    try {
      await opened.open(may("annotate"), controller.signal);
      marks = opened;
      redraw();
    } catch (error) {
      if (!controller.signal.aborted) toast(sentenceOf(error));
    }
  }

  function told(state: SaveState): void {
    saved.dataset.state = state;
    saved.textContent = t(`viewer.save.${state}`);
    if (state === "conflict") {
      toast(t("viewer.save.conflict.hint"));
      marks?.merge(controller.signal).catch(() => told("failed"));
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: a line of the list, typed when its page is
  function describeStudy(row: any): void {
    const [name, other] = personName(row.patient_name);
    title.textContent = name || t("list.noname");
    const known = ["M", "F", "O"].includes(row.patient_sex);
    const sex = known ? t(`sex.${row.patient_sex.toLowerCase()}`) : row.patient_sex;
    const verified = row.verified_on
      ? t("viewer.verified", { time: moment(row.verified_on) })
      : t("viewer.unverified");
    const parts = [
      row.study_description,
      dicomDate(row.study_date),
      verified,
      row.protected && t("list.protected"),
    ];
    subtitle.textContent = parts.filter(Boolean).join(" · ");
    const birth = [dicomDate(row.patient_birth_date), sex].filter(Boolean).join(" · ");
    patient = [name, other, row.patient_id, birth, row.institution_name].filter(Boolean);
  }

  function card(shown: DisplaySet, index: number): HTMLElement {
    const middle = shown.frames[Math.floor(shown.frames.length / 2)];
    const thumb = h(
      "div",
      { class: "thumb" },
      middle
        ? h("img", {
            src: api.frameThumbnail(middle.uid, middle.frame),
            alt: "",
            loading: "lazy",
            decoding: "async",
            draggable: "false",
            onerror: () => thumb.replaceChildren(shown.series.modality),
          })
        : icon("picture"),
    );
    return h(
      "button",
      {
        class: "series",
        type: "button",
        draggable: "true",
        onclick: () => select(index),
        ondragstart: (event: DragEvent) => event.dataTransfer?.setData(DRAGGED, String(index)),
      },
      thumb,
      h(
        "span",
        { class: "series-words" },
        h("b", {}, seriesWords(shown.series)),
        h("span", {}, shown.series.modality),
        h("span", {}, t("viewer.images", { n: shown.frames.length })),
      ),
    );
  }

  workspace.root.addEventListener("dragover", (event) => {
    if (event.dataTransfer?.types.includes(DRAGGED)) event.preventDefault();
  });
  workspace.root.addEventListener("drop", (event) => {
    const index = Number(event.dataTransfer?.getData(DRAGGED));
    const view = workspace.views.find((each) => each.root.contains(event.target as Node));
    if (!view || Number.isNaN(index)) return;
    event.preventDefault();
    select(index, view);
  });
  workspace.root.addEventListener("dblclick", () => workspace.toggleFull());

  const onkey = (event: KeyboardEvent): void => {
    if (root.querySelector("dialog[open]")) return;
    const found = commandOf(event);
    if (!found) return;
    event.preventDefault();
    found.run(workspace);
    speak(t(`viewer.command.${found.name.replace(/\d+$/, "")}`));
  };
  addEventListener("keydown", onkey);

  void load();
  return {
    root,
    stop: () => {
      removeEventListener("keydown", onkey);
      void marks?.stop();
      controller.abort();
      workspace.dispose();
      top.stop();
    },
  };
}

function sentenceOf(error: unknown): string {
  return (error as { sentence?: () => string }).sentence?.() ?? t("problem.unknown");
}

function seriesWords(series: Series): string {
  const text = series.series_description || series.body_part_examined || t("viewer.unnamed");
  return [series.series_number, text].filter(Boolean).join(" · ");
}
