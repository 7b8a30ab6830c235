// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Autosave, type SaveState } from "./autosave";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function desk() {
  const states: SaveState[] = [];
  const written: [string[], number][] = [];
  const made = {
    content: [] as string[],
    states,
    written,
    refuse: null as unknown,
    read: () => made.content,
    write: async (content: string[], revision: number) => {
      if (made.refuse) throw made.refuse;
      written.push([[...content], revision]);
      return revision + 1;
    },
    told: (state: SaveState) => void states.push(state),
  };
  return made;
}

test("what was drawn is saved within two seconds, however busy the hand is", async () => {
  const box = desk();
  const saving = new Autosave(box, 0);
  for (let i = 0; i < 20; i += 1) {
    box.content = [...box.content, String(i)];
    saving.touch();
    await vi.advanceTimersByTimeAsync(150);
    if (i * 150 > 2100) break;
  }
  expect(box.written.length).toBeGreaterThanOrEqual(1);
});

test("nothing is written when nothing has changed", async () => {
  const box = desk();
  const saving = new Autosave(box, 3);
  saving.touch();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(box.written).toEqual([]);
  expect(box.states).toEqual([]);
});

test("each save is made upon the revision that the one before answered", async () => {
  const box = desk();
  const saving = new Autosave(box, 0);
  box.content = ["a"];
  saving.touch();
  await vi.advanceTimersByTimeAsync(1000);
  box.content = ["a", "b"];
  saving.touch();
  await vi.advanceTimersByTimeAsync(1000);
  expect(box.written).toEqual([
    [["a"], 0],
    [["a", "b"], 1],
  ]);
});

test("a failure is told and tried again until it is saved", async () => {
  const box = desk();
  const saving = new Autosave(box, 0);
  box.refuse = new Error("network");
  box.content = ["a"];
  saving.touch();
  await vi.advanceTimersByTimeAsync(3000);
  expect(box.states.at(-1)).toBe("failed");
  box.refuse = null;
  await vi.advanceTimersByTimeAsync(6000);
  expect(box.states.at(-1)).toBe("saved");
  expect(box.written).toEqual([[["a"], 0]]);
});

test("a conflict overwrites nothing until somebody decides", async () => {
  const box = desk();
  const saving = new Autosave(box, 4);
  box.refuse = { code: "revision-conflict" };
  box.content = ["mine"];
  saving.touch();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(box.states.filter((state) => state === "saving")).toHaveLength(1);
  expect(box.states.at(-1)).toBe("conflict");
  box.refuse = null;
  box.content = ["theirs", "mine"];
  saving.resolve(9);
  await vi.advanceTimersByTimeAsync(1000);
  expect(box.written).toEqual([[["theirs", "mine"], 9]]);
});

test("leaving the page saves what is left", async () => {
  const box = desk();
  const saving = new Autosave(box, 0);
  box.content = ["last"];
  saving.touch();
  await saving.stop();
  expect(box.written).toEqual([[["last"], 0]]);
});

test("what is drawn and taken away again is no longer said to wait", async () => {
  const box = desk();
  const saving = new Autosave(box, 0);
  box.content = ["a"];
  saving.touch();
  box.content = [];
  await vi.advanceTimersByTimeAsync(1000);
  expect(box.states).toEqual(["waiting", "saved"]);
  expect(box.written).toEqual([]);
});
