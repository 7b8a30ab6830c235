// SPDX-License-Identifier: Apache-2.0
// Playing a stack: the rate of the file for clips, ten a second else, never faster than it draws.

const USUAL_RATE = 10;
const FASTEST = 60;

/** Frames a second as the file says (PS3.3 C.7.6.5), or the usual rate. */
export function rateOf(metadata: Record<string, { Value?: unknown[] }> | undefined): number {
  const number = (tag: string) => Number(metadata?.[tag]?.Value?.[0]);
  const recommended = number("00082144");
  const cine = number("00180040");
  const frameTime = number("00181063");
  const found = [recommended, cine, 1000 / frameTime].find(
    (each) => Number.isFinite(each) && each > 0,
  );
  return Math.min(FASTEST, found ?? USUAL_RATE);
}

export class Cine {
  #timer = 0;
  #busy = false;
  readonly #step: () => Promise<void>;

  /** `step` shows the next picture and settles when it stands there. */
  constructor(step: () => Promise<void>) {
    this.#step = step;
  }

  get playing(): boolean {
    return this.#timer !== 0;
  }

  play(rate: number): void {
    this.stop();
    this.#timer = window.setInterval(async () => {
      if (this.#busy) return;
      this.#busy = true;
      await this.#step().catch(() => this.stop());
      this.#busy = false;
    }, 1000 / rate);
  }

  stop(): void {
    window.clearInterval(this.#timer);
    this.#timer = 0;
  }
}
