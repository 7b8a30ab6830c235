// SPDX-License-Identifier: Apache-2.0
// Saves a document soon after each change, upon the revision it was made from. Nothing is ever
// overwritten: when somebody else saved meanwhile, the page is told and decides.

export type SaveState = "saved" | "waiting" | "saving" | "conflict" | "failed";

export interface Saver<T> {
  /** What stands there to be saved now. */
  read(): T;
  /** Save upon a revision; answers with the new one. Rejects with `code` "revision-conflict". */
  write(content: T, revision: number): Promise<number>;
  /** Hear how it stands. */
  told(state: SaveState): void;
}

const QUIET_MS = 800; // after the last change
const LONGEST_MS = 2000; // after the first change that is not saved
const AGAIN_MS = 5000; // after a failure

export class Autosave<T> {
  revision: number;
  readonly #saver: Saver<T>;
  #last: string;
  #timer = 0;
  #since = 0;
  #running: Promise<void> | null = null;
  #stopped = false;
  #conflict = false;
  #failed = false;

  constructor(saver: Saver<T>, revision: number) {
    this.#saver = saver;
    this.revision = revision;
    this.#last = JSON.stringify(saver.read());
  }

  /** Something may have changed. */
  touch(): void {
    if (this.#stopped || this.#conflict || JSON.stringify(this.#saver.read()) === this.#last)
      return;
    if (this.#failed) return; // it is tried again by itself
    const now = Date.now();
    this.#since ||= now;
    this.#saver.told("waiting");
    this.#later(Math.max(0, Math.min(QUIET_MS, this.#since + LONGEST_MS - now)));
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.flush(), ms) as unknown as number;
  }

  /** Save at once what is not saved; resolves when it is settled one way or the other. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    while (this.#running) await this.#running;
    if (this.#conflict) return;
    const content = this.#saver.read();
    const text = JSON.stringify(content);
    if (text === this.#last) {
      if (this.#since) this.#saver.told("saved"); // what was drawn has been taken away again
      this.#since = 0;
      return;
    }
    this.#running = this.#save(content, text);
    await this.#running;
  }

  async #save(content: T, text: string): Promise<void> {
    this.#failed = false;
    this.#saver.told("saving");
    let done = false;
    try {
      this.revision = await this.#saver.write(content, this.revision);
      this.#last = text;
      this.#since = 0;
      this.#saver.told("saved");
      done = true;
    } catch (error) {
      if ((error as { code?: string }).code === "revision-conflict") {
        this.#conflict = true;
        this.#saver.told("conflict");
      } else {
        this.#failed = true;
        this.#saver.told("failed");
        if (!this.#stopped) this.#later(AGAIN_MS);
      }
    } finally {
      this.#running = null;
    }
    if (done && !this.#stopped) this.touch();
  }

  /** Go on from what the other saved: the next save is made upon its revision. */
  resolve(revision: number): void {
    this.revision = revision;
    this.#conflict = false;
    this.#last = "";
    this.touch();
  }

  /** Save what is left and end. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.flush();
    clearTimeout(this.#timer);
  }
}
