// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { alongNormal, displaySets } from "./series";
import type { Instance, Series } from "./types";

const instance = (number: number, more: Partial<Instance> = {}): Instance => ({
  sop_instance_uid: `1.2.${number}`,
  sop_class_uid: "1.2.840.10008.5.1.4.1.1.2",
  transfer_syntax_uid: "1.2.840.10008.1.2.1",
  instance_number: number,
  number_of_frames: null,
  rows: 512,
  columns: 512,
  ...more,
});

const series = (instances: Instance[]): Series => ({
  series_instance_uid: "1.2.3",
  modality: "CT",
  series_number: 1,
  series_description: "",
  body_part_examined: "",
  number_of_instances: instances.length,
  instances,
});

describe("display sets", () => {
  test("images of one size stack by their number", () => {
    const [only, ...more] = displaySets(series([instance(3), instance(1), instance(2)]));
    expect(more).toEqual([]);
    expect(only?.frames.map(({ uid }) => uid)).toEqual(["1.2.1", "1.2.2", "1.2.3"]);
  });

  test("a localizer of another size and a clip are panes of their own", () => {
    const sets = displaySets(
      series([instance(1), instance(2, { rows: 888 }), instance(3, { number_of_frames: 30 })]),
    );
    expect(sets.map(({ frames, multiframe }) => [frames.length, multiframe])).toEqual([
      [1, false],
      [1, false],
      [30, true],
    ]);
    expect(sets[2]?.frames.at(-1)).toEqual({ uid: "1.2.3", frame: 30 });
  });

  test("objects without a picture show their document, one by one", () => {
    const report = (number: number) => instance(number, { rows: null, columns: null });
    const sets = displaySets(series([report(2), report(1), instance(3)]));
    expect(sets.map(({ frames, document }) => [frames.length, document])).toEqual([
      [1, undefined],
      [0, "1.2.1"],
      [0, "1.2.2"],
    ]);
  });
});

describe("slices along the normal", () => {
  const axial = [1, 0, 0, 0, 1, 0];
  const slice = (z: number, orientation: number[] | null = axial) => ({
    z,
    position: [0, 0, z],
    orientation,
  });
  const places = (slices: { z: number }[]) => slices.map(({ z }) => z);

  test("are sorted by where they lie, whatever their numbers", () => {
    expect(places(alongNormal([slice(10), slice(-5), slice(2.5)]))).toEqual([-5, 2.5, 10]);
  });

  test("that lie in one place twice keep the order of acquisition", () => {
    expect(places(alongNormal([slice(3), slice(1), slice(3)]))).toEqual([3, 1, 3]);
  });

  test("that are not parallel keep their order", () => {
    expect(places(alongNormal([slice(3), slice(1, [0, 1, 0, 0, 0, -1])]))).toEqual([3, 1]);
  });

  test("that do not say where they lie keep their order", () => {
    expect(places(alongNormal([slice(3, null), slice(1, null)]))).toEqual([3, 1]);
  });
});
