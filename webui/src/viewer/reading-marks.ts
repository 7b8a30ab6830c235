// SPDX-License-Identifier: Apache-2.0
// What readers drew in the open study: theirs shown, ours saved as we draw, key images starred.

import * as api from "../api.js";
import { Autosave, type SaveState } from "./autosave";
import { forgetMarks, onMarks, putBack, records } from "./engine/marks";
import type { MarkRecord } from "./records";

interface Layer<K extends string, T> {
  author: string;
  own: boolean;
  revision: number;
  content: Record<K, T>;
}

interface KeyImage {
  sop_instance_uid: string;
  frame: number | null;
  note: string;
}

export interface MarksListener {
  saving(state: SaveState): void;
  changed(): void;
}

export class ReadingMarks {
  readonly #study: string;
  readonly #listener: MarksListener;
  #others = new Set<string>();
  #waiting: MarkRecord[] = []; // kept marks of images that no pane has described yet
  #marks: Autosave<{ annotations: MarkRecord[] }> | null = null;
  #keys: Autosave<{ title: string; images: KeyImage[] }> | null = null;
  #images: KeyImage[] = [];
  #title = "of-interest";
  #end = () => {};

  constructor(study: string, listener: MarksListener) {
    this.#study = study;
    this.#listener = listener;
  }

  /** Read what was kept; drawing is saved from now on, if `writable`. */
  async open(writable: boolean, signal: AbortSignal): Promise<void> {
    forgetMarks();
    const [drawn, starred] = await Promise.all([
      api.annotations(this.#study, signal),
      api.keyImages(this.#study, signal),
    ]);
    if (signal.aborted) return;
    const layers: Layer<"annotations", MarkRecord[]>[] = drawn.layers.map(
      // biome-ignore lint/suspicious/noExplicitAny: as the box answers
      (layer: any) => ({ ...layer, content: layer.annotations }),
    );
    for (const layer of layers) {
      this.#waiting.push(...layer.content.annotations);
      if (!layer.own) for (const { id } of layer.content.annotations) this.#others.add(id);
    }
    const own = layers.find((layer) => layer.own);
    // biome-ignore lint/suspicious/noExplicitAny: as the box answers
    const stars = starred.layers.find((layer: any) => layer.own);
    this.#images = stars?.key_images.images ?? [];
    this.#title = stars?.key_images.title ?? this.#title;
    this.described();
    if (!writable) return;
    const told = (state: SaveState) => this.#listener.saving(state);
    this.#marks = new Autosave(
      {
        read: () => ({ annotations: this.#own() }),
        write: async (content, revision) =>
          (await api.saveAnnotations(this.#study, content, revision)).revision,
        told,
      },
      own?.revision ?? 0,
    );
    this.#keys = new Autosave(
      {
        read: () => ({ title: this.#title, images: this.#images }),
        write: async (content, revision) =>
          (await api.saveKeyImages(this.#study, content, revision)).revision,
        told,
      },
      stars?.revision ?? 0,
    );
    this.#end = onMarks(() => this.#marks?.touch());
  }

  /** Ours: what stands on the images, and what waits for an image that is not open. */
  #own(): MarkRecord[] {
    const shown = records();
    const all = [...shown, ...this.#waiting];
    return all.filter(({ id }) => !this.#others.has(id)).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** More images are known: draw what was kept of them. */
  described(): void {
    this.#waiting = this.#waiting.filter((record) => !putBack(record));
  }

  isOwn(mark: string): boolean {
    return !this.#others.has(mark);
  }

  isKey(uid: string, frame: number): boolean {
    return this.#images.some(
      (each) => each.sop_instance_uid === uid && (each.frame ?? 1) === frame,
    );
  }

  get keyCount(): number {
    return this.#images.length;
  }

  toggleKey(uid: string, frame: number): void {
    this.#images = this.isKey(uid, frame)
      ? this.#images.filter((each) => each.sop_instance_uid !== uid || (each.frame ?? 1) !== frame)
      : [...this.#images, { sop_instance_uid: uid, frame, note: "" }];
    this.#keys?.touch();
    this.#listener.changed();
  }

  /** After a conflict: take theirs beside ours and save both. */
  async merge(signal: AbortSignal): Promise<void> {
    const { layers } = await api.annotations(this.#study, signal);
    // biome-ignore lint/suspicious/noExplicitAny: as the box answers
    const own = layers.find((layer: any) => layer.own);
    const here = new Set(this.#own().map(({ id }) => id));
    const missing = (own?.annotations.annotations ?? []) as MarkRecord[];
    this.#waiting.push(...missing.filter(({ id }) => !here.has(id)));
    this.described();
    this.#marks?.resolve(own?.revision ?? 0);
  }

  async stop(): Promise<void> {
    this.#end();
    await Promise.all([this.#marks?.stop(), this.#keys?.stop()]);
  }
}
