// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { boxPoints, boxTool, enginePoints, engineTool, measurements, type Point } from "./records";

test("each tool has one name on either side", () => {
  for (const name of ["Length", "Angle", "CobbAngle", "EllipticalROI", "Probe"]) {
    expect(engineTool(boxTool(name) ?? "")).toBe(name);
  }
  expect(boxTool("SculptorTool")).toBeUndefined();
});

test("a rectangle is two opposite corners there and four here", () => {
  const corners: Point[] = [
    [10, 20],
    [30, 20],
    [10, 60],
    [30, 60],
  ];
  const kept = boxPoints("rectangle", corners);
  expect(kept).toEqual([
    [10, 20],
    [30, 60],
  ]);
  expect(enginePoints("rectangle", kept)).toEqual(corners);
});

test.each([
  [
    "lying",
    [
      [50, 60],
      [50, 40],
      [10, 50],
      [90, 50],
    ],
  ],
  [
    "standing",
    [
      [50, 90],
      [50, 10],
      [40, 50],
      [60, 50],
    ],
  ],
])("a %s ellipse begins with its major axis and comes back as it was", (_, points) => {
  const drawn = points as Point[];
  const kept = boxPoints("ellipse", drawn);
  const length = (a: Point, b: Point) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  expect(length(kept[0] as Point, kept[1] as Point)).toBe(80);
  expect(enginePoints("ellipse", kept)).toEqual(drawn);
});

test("a long drawing is thinned below what the box takes and keeps its ends", () => {
  const drawn = Array.from({ length: 9001 }, (_, i): Point => [i, i]);
  const kept = boxPoints("freehand", drawn, false);
  expect(kept.length).toBeLessThanOrEqual(2000);
  expect(kept[0]).toEqual([0, 0]);
  expect(kept.at(-1)).toEqual([9000, 9000]);
});

test("what was measured has UCUM units; what is no number is left out", () => {
  const stats = { area: 12.5, areaUnit: "mm²", mean: -442, modalityUnit: "HU", max: null };
  expect(measurements(stats)).toEqual([
    { name: "area", value: 12.5, unit: "mm2" },
    { name: "mean", value: -442, unit: "[hnsf'U]" },
  ]);
  expect(measurements(undefined)).toEqual([]);
});
