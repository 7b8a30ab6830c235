// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Cine, rateOf } from "./cine";

beforeEach(() => {
  vi.stubGlobal("window", globalThis);
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const value = (number: unknown) => ({ Value: [number] });

test("the rate is the recommended one, the cine rate, or the time of a frame", () => {
  expect(rateOf({ "00082144": value(24), "00180040": value(15) })).toBe(24);
  expect(rateOf({ "00180040": value("15") })).toBe(15);
  expect(rateOf({ "00181063": value(40) })).toBe(25);
});

test("a file that says no rate, or nonsense, plays ten a second; none plays over sixty", () => {
  expect(rateOf(undefined)).toBe(10);
  expect(rateOf({ "00181063": value(0) })).toBe(10);
  expect(rateOf({ "00180040": value(500) })).toBe(60);
});

test("a slow picture is waited for", async () => {
  let finish = () => {};
  const step = vi.fn(
    () =>
      new Promise<void>((done) => {
        finish = done;
      }),
  );
  const cine = new Cine(step);
  cine.play(10);
  await vi.advanceTimersByTimeAsync(500);
  expect(step).toHaveBeenCalledTimes(1);
  finish();
  await vi.advanceTimersByTimeAsync(200);
  expect(step).toHaveBeenCalledTimes(2);
  cine.stop();
  expect(cine.playing).toBe(false);
});

test("a picture that fails ends the play", async () => {
  const cine = new Cine(() => Promise.reject(new Error("gone")));
  cine.play(10);
  await vi.advanceTimersByTimeAsync(300);
  expect(cine.playing).toBe(false);
});
