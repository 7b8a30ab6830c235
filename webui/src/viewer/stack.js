// SPDX-License-Identifier: Apache-2.0
// The pictures of one series: loaded in the order they are wanted, kept while memory allows.

import * as api from "../api.js";

const AT_ONCE = 4;
const AHEAD = 12;
const BEHIND = 4;
const KEPT_PIXELS = 96e6; // about 400 MB of bitmaps at most on a big screen, far less on a tablet

/** Every frame of a series as a flat list. */
export function framesOf(series) {
  return series.instances
    .filter((instance) => instance.rows && instance.columns)
    .flatMap((instance) => Array.from({ length: instance.number_of_frames || 1 }, (_, i) => ({
      uid: instance.sop_instance_uid,
      frame: i + 1,
      rows: instance.rows,
      columns: instance.columns,
    })));
}

export class Stack {
  /** `changed(index)` is called when a picture came or failed. */
  constructor(frames, changed) {
    this.frames = frames;
    this.changed = changed;
    this.window = null; // as stored
    this.size = 1024;
    this.kept = new Map(); // key → {bitmap, window, pixels}, the last used at the end
    this.failed = new Map(); // key → error
    this.running = new Map(); // key → AbortController
    this.index = 0;
    this.direction = 1;
    this.pixels = 0;
  }

  key(index) {
    const window = this.window ? `${this.window.center}/${this.window.width}` : "";
    return `${index}|${this.size}|${window}`;
  }

  /** The picture that was asked for, if it is here. */
  picture(index) {
    const key = this.key(index);
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
    }
    return found ?? null;
  }

  error(index) {
    return this.failed.get(this.key(index)) ?? null;
  }

  isLoading(index) {
    return this.running.has(this.key(index));
  }

  show(index) {
    this.direction = index >= this.index ? 1 : -1;
    this.index = index;
    this.load();
  }

  retry() {
    this.failed.clear();
    this.load();
  }

  /** Ask for the picture in view, then for those the user comes to next. */
  load() {
    const wanted = this.wanted();
    const keys = new Set(wanted.map((index) => this.key(index)));
    for (const [key, controller] of this.running) {
      if (!keys.has(key)) controller.abort();
    }
    for (const index of wanted) {
      if (this.running.size >= AT_ONCE && index !== this.index) return;
      this.start(index);
    }
  }

  wanted() {
    const found = [this.index];
    for (let step = 1; step <= AHEAD; step += 1) {
      found.push(this.index + step * this.direction);
      if (step <= BEHIND) found.push(this.index - step * this.direction);
    }
    return found.filter((index) => index >= 0 && index < this.frames.length);
  }

  async start(index) {
    const key = this.key(index);
    if (this.kept.has(key) || this.running.has(key) || this.failed.has(key)) return;
    const controller = new AbortController();
    this.running.set(key, controller);
    const { uid, frame } = this.frames[index];
    try {
      const found = await api.frame(uid, frame, { window: this.window, size: this.size, signal: controller.signal });
      if (controller.signal.aborted) {
        found.bitmap.close();
        return;
      }
      this.keep(key, found);
    } catch (error) {
      if (error.name !== "AbortError" && !controller.signal.aborted) this.failed.set(key, error);
    } finally {
      this.running.delete(key);
    }
    if (controller.signal.aborted) return;
    this.changed(index);
    this.load();
  }

  keep(key, found) {
    const pixels = found.bitmap.width * found.bitmap.height;
    this.kept.set(key, { ...found, pixels });
    this.pixels += pixels;
    for (const [oldest, each] of this.kept) {
      if (this.pixels <= KEPT_PIXELS || oldest === key) break;
      this.kept.delete(oldest);
      this.pixels -= each.pixels;
      each.bitmap.close();
    }
  }

  stop() {
    for (const controller of this.running.values()) controller.abort();
    for (const each of this.kept.values()) each.bitmap.close();
    this.kept.clear();
    this.changed = () => {};
  }
}
