// SPDX-License-Identifier: Apache-2.0
// The picture area: canvas, corner texts, slice rail, window, keys. Knows a Stack, no server.

import { h, icon, speak } from "../dom.js";
import { number, t } from "../i18n.js";
import { gestures } from "./gestures.js";
import { Stack } from "./stack.js";

const SIZES = [512, 1024, 2048];

export class Stage {
  /** `windowChanged(shown, adjustable)` tells the tools what the picture shows. */
  constructor({ windowChanged, stepSeries }) {
    this.windowChanged = windowChanged;
    this.stepSeries = stepSeries;
    this.stack = null;
    this.shown = null; // the last window the box applied
    this.last = null; // the picture on the canvas
    this.canvas = h("canvas", { tabindex: "0", role: "img" });
    this.corners = Object.fromEntries(["top-left", "top-right", "bottom-left", "bottom-right"].map((name) => [name, h("div", { class: `corner ${name}` })]));
    this.rail = h("input", { class: "rail", type: "range", min: 1, step: 1, "aria-label": t("viewer.slice"), oninput: () => this.go(Number(this.rail.value) - 1) });
    this.message = h("div", { class: "stage-message" });
    this.busy = h("div", { class: "stage-busy", hidden: true }, h("span", { class: "spinner", role: "status", "aria-label": t("loading") }));
    this.root = h("main", { class: "stage" }, this.canvas, Object.values(this.corners), h("p", { class: "notice-line" }, t("notice.short")), this.rail, this.busy, this.message);
    this.stopGestures = gestures(this.canvas, { scroll: (steps) => this.step(steps), window: (dx, dy) => this.drag(dx, dy) });
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.root);
    this.onkey = (event) => this.key(event);
    addEventListener("keydown", this.onkey);
  }

  stop() {
    removeEventListener("keydown", this.onkey);
    this.observer.disconnect();
    this.stopGestures();
    this.stack?.stop();
  }

  open(series, frames, words) {
    this.stack?.stop();
    this.words = words;
    this.last = null;
    this.shown = null;
    this.corners["top-right"].textContent = words;
    this.stack = frames.length ? new Stack(frames, (index) => this.arrived(index)) : null;
    this.rail.hidden = frames.length < 2;
    this.rail.max = String(Math.max(1, frames.length));
    this.windowChanged(null);
    if (!this.stack) {
      this.clear();
      this.tell("picture", t("viewer.nopicture", { modality: series.modality }));
      return;
    }
    this.message.replaceChildren();
    this.stack.size = this.size();
    this.go(0);
  }

  size() {
    const longest = Math.max(this.root.clientWidth, this.root.clientHeight) * Math.min(devicePixelRatio, 2);
    return SIZES.find((each) => each >= longest) ?? SIZES.at(-1);
  }

  resized() {
    const scale = Math.min(devicePixelRatio, 2);
    this.canvas.width = Math.round(this.root.clientWidth * scale);
    this.canvas.height = Math.round(this.root.clientHeight * scale);
    if (this.stack && this.size() > this.stack.size) {
      this.stack.size = this.size();
      this.stack.load();
    }
    this.paint();
  }

  step(steps) {
    if (this.stack) this.go(this.stack.index + steps);
  }

  go(index) {
    const stack = this.stack;
    if (!stack) return;
    const bounded = Math.max(0, Math.min(stack.frames.length - 1, index));
    stack.show(bounded);
    this.rail.value = String(bounded + 1);
    const position = t("viewer.position", { n: bounded + 1, total: stack.frames.length });
    this.rail.setAttribute("aria-valuetext", position);
    this.corners["bottom-right"].textContent = position;
    this.canvas.setAttribute("aria-label", `${this.words}, ${position}`);
    this.refresh();
  }

  arrived(index) {
    if (index === this.stack.index) this.refresh();
  }

  /** Show what there is of the picture in view: itself, the wait for it, or why it failed. */
  refresh() {
    const stack = this.stack;
    const found = stack.picture(stack.index);
    const error = stack.error(stack.index);
    this.busy.hidden = Boolean(found || error);
    if (found) {
      this.last = found;
      this.shown = found.window;
      this.message.replaceChildren();
      this.paint();
      this.drawWindow();
    } else if (error) {
      this.clear();
      const sentence = error.sentence ? error.sentence() : t("problem.unknown");
      const again = error.status === 0 || error.status >= 500;
      this.tell("alert", sentence, again && h("button", { class: "button", type: "button", onclick: () => { this.message.replaceChildren(); stack.retry(); this.refresh(); } }, icon("reset"), t("again")));
      speak(sentence);
    }
  }

  drawWindow() {
    const { center, width } = this.stack.window ?? this.shown ?? {};
    this.corners["bottom-left"].textContent = center === undefined ? "" : t("viewer.window", { center: number(Math.round(center)), width: number(Math.round(width)) });
    this.windowChanged(center === undefined ? null : { center, width });
  }

  clear() {
    this.last = null;
    this.busy.hidden = true;
    this.corners["bottom-left"].textContent = "";
    if (!this.stack) this.corners["bottom-right"].textContent = "";
    this.paint();
  }

  tell(name, text, ...more) {
    this.message.replaceChildren(icon(name), h("p", {}, text), ...more.filter(Boolean));
  }

  paint() {
    const context = this.canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const bitmap = this.last?.bitmap;
    if (!bitmap || !bitmap.width) return;
    const scale = Math.min(this.canvas.width / bitmap.width, this.canvas.height / bitmap.height);
    const width = bitmap.width * scale;
    const height = bitmap.height * scale;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (this.canvas.width - width) / 2, (this.canvas.height - height) / 2, width, height);
  }

  /** Set the window, or null for the one the image was stored with. */
  setWindow(window) {
    if (!this.stack || (window && !this.shown)) return;
    this.stack.window = window && { center: Math.round(window.center * 10) / 10, width: Math.max(1, Math.round(window.width * 10) / 10) };
    if (window) this.drawWindow();
    clearTimeout(this.windowTimer);
    // the box renders one picture at a time while the hand moves, the last one always
    const load = () => { this.stack?.load(); this.refresh(); };
    if (this.stack.running.size) this.windowTimer = setTimeout(load, 60);
    else load();
  }

  drag(dx, dy) {
    const from = this.stack?.window ?? this.shown;
    if (!from || (!dx && !dy)) return;
    const speed = Math.max(0.2, from.width / 400);
    this.setWindow({ center: from.center + dy * speed, width: from.width + dx * speed });
  }

  key(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, input:not([type=range]), textarea")) return;
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const far = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowUp: () => this.step(-far),
      ArrowDown: () => this.step(far),
      Home: () => this.go(0),
      End: () => this.go(Number.MAX_SAFE_INTEGER),
      PageUp: () => this.stepSeries(-1),
      PageDown: () => this.stepSeries(1),
      Escape: () => this.setWindow(null),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}
