// SPDX-License-Identifier: Apache-2.0
// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import type { StudyRow } from "./rows";

const asked: { offset: number; limit: number; search: string; filters: unknown[] }[] = [];
let total = 200;
let fail: unknown = null;

vi.mock("../../api.js", () => ({
  searchStudies: async (query: (typeof asked)[number]) => {
    asked.push(query);
    if (fail) throw fail;
    const count = Math.max(0, Math.min(query.limit, total - query.offset));
    const rows = Array.from({ length: count }, (_, i) => row(query.offset + i));
    return { total, offset: query.offset, rows };
  },
}));

const row = (number: number) => ({ study_instance_uid: `1.2.${number}` }) as StudyRow;
const settled = () => new Promise((done) => setTimeout(done, 0));
const uid = (found: StudyRow | undefined) => found?.study_instance_uid;

let model: typeof import("./model");

beforeEach(async () => {
  vi.resetModules();
  asked.length = 0;
  total = 200;
  fail = null;
  model = await import("./model");
});

test("only what is in view is asked for, and each portion once", async () => {
  await model.reload();
  expect(model.found.value).toBe(200);
  expect(uid(model.rowAt(5))).toBe("1.2.5");
  expect(model.rowAt(130)).toBeUndefined();
  model.need(125, 150);
  model.need(125, 150);
  await settled();
  expect(uid(model.rowAt(130))).toBe("1.2.130");
  expect(asked.map(({ offset }) => offset)).toEqual([0, 120]);
});

test("a new question begins at the first row and forgets the old rows", async () => {
  await model.reload();
  model.need(120, 120);
  await settled();
  total = 3;
  model.ask({ search: "  Rossi " });
  await settled();
  expect(model.found.value).toBe(3);
  expect(asked.at(-1)).toMatchObject({ offset: 0, search: "Rossi" });
  expect(model.rowAt(120)).toBeUndefined();
});

test("an answer to an older question is not shown", async () => {
  const first = model.reload();
  total = 7;
  model.ask({ search: "new" });
  await first;
  await settled();
  expect(model.found.value).toBe(7);
});

test("a failure is told and the next answer clears it", async () => {
  fail = new Error("gone");
  await model.reload();
  expect(model.refused.value).toBe(fail);
  fail = null;
  await model.reload();
  expect(model.refused.value).toBeNull();
});

test("modalities are alternatives and a period is a range of days", async () => {
  model.toggleModality("CT");
  model.toggleModality("MR");
  model.ask({ period: "today" });
  await settled();
  const [modalities, period] = (asked.at(-1)?.filters ?? []) as {
    field: string;
    values: string[];
  }[];
  expect(modalities).toEqual({ field: "modalities", values: ["CT", "MR"] });
  expect(period?.field).toBe("study_date");
  expect(period?.values).toHaveLength(2);
  expect(model.filtered.value).toBe(true);
  model.forgetFilters();
  expect(model.filtered.value).toBe(false);
});

test("picked studies stay picked while the list moves on", async () => {
  model.pick(row(1), true);
  model.pick(row(2), true);
  model.pick(row(1), false);
  await model.reload();
  expect([...model.selection.value.keys()]).toEqual(["1.2.2"]);
});
