// SPDX-License-Identifier: Apache-2.0
// Marks as the box keeps them: image coordinates, column and row, 0.5/0.5 is the middle of the
// first pixel (PS3.3 C.18.6.1.2). Pure functions; the engine's own points are world coordinates.

export type Point = [number, number];

export interface Measurement {
  name: string;
  value: number;
  unit: string;
}

export interface MarkRecord {
  id: string;
  tool: string;
  sop_instance_uid: string;
  frame: number;
  points: Point[];
  label: string;
  text: string;
  measurements: Measurement[];
}

export type EngineTool = keyof typeof TO_BOX;

/** The engine's name of a tool, and the box's. */
const TO_BOX = {
  Length: "length",
  Bidirectional: "bidirectional",
  Angle: "angle",
  CobbAngle: "cobb",
  RectangleROI: "rectangle",
  EllipticalROI: "ellipse",
  CircleROI: "circle",
  PlanarFreehandROI: "freehand",
  Probe: "probe",
  ArrowAnnotate: "arrow",
} as const;

export const boxTool = (name: string): string | undefined => TO_BOX[name as EngineTool];

export const engineTool = (tool: string): string | undefined =>
  tool === "polyline"
    ? "PlanarFreehandROI"
    : Object.entries(TO_BOX).find(([, box]) => box === tool)?.[0];

const MOST_POINTS = 2000;

/** The engine's points of a tool in the order in which the box keeps them. */
export function boxPoints(tool: string, points: Point[], closed = true): Point[] {
  const at = (i: number) => points[i] ?? [0, 0];
  switch (tool) {
    case "rectangle":
      return [at(0), at(3)];
    case "ellipse": {
      const vertical: Point[] = [at(0), at(1)];
      const horizontal: Point[] = [at(2), at(3)];
      return distance(at(0), at(1)) >= distance(at(2), at(3))
        ? [...vertical, ...horizontal]
        : [...horizontal, ...vertical];
    }
    case "freehand":
      return thinned(points, closed);
    default:
      return points;
  }
}

/** The box's points of a tool in the order that the engine wants. */
export function enginePoints(tool: string, points: Point[]): Point[] {
  const [a = [0, 0], b = [0, 0], c = [0, 0], d = [0, 0]] = points;
  switch (tool) {
    case "rectangle":
      return [a, [b[0], a[1]], [a[0], b[1]], b];
    case "ellipse": {
      const steep = Math.abs(a[1] - b[1]) >= Math.abs(a[0] - b[0]);
      const [vertical, horizontal] = steep
        ? [
            [a, b],
            [c, d],
          ]
        : [
            [c, d],
            [a, b],
          ];
      const [bottom, top] = sorted(vertical as [Point, Point], 1).reverse();
      const [left, right] = sorted(horizontal as [Point, Point], 0);
      return [bottom, top, left, right] as Point[];
    }
    default:
      return points;
  }
}

function sorted(pair: [Point, Point], axis: 0 | 1): [Point, Point] {
  return pair[0][axis] <= pair[1][axis] ? pair : [pair[1], pair[0]];
}

const distance = (a: Point, b: Point) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** A hand draws more points than anybody needs; every n-th stays, the last always. */
function thinned(points: Point[], closed: boolean): Point[] {
  const step = Math.ceil(points.length / (MOST_POINTS - 1)) || 1;
  const kept = points.filter((_, i) => i % step === 0);
  const last = points.at(-1);
  if (!closed && last && kept.at(-1) !== last) kept.push(last);
  return kept;
}

const UNITS: Record<string, string> = {
  mm: "mm",
  "mm²": "mm2",
  px: "{pixel}",
  "px²": "{pixel}2",
  HU: "[hnsf'U]",
  "\u00b0": "deg",
  deg: "deg",
  raw: "1",
};

/** A unit as UCUM writes it; what is not known has none. */
export const ucum = (unit: unknown): string => UNITS[String(unit ?? "")] ?? "1";

type Stats = Record<string, unknown>;

/** What the engine measured, by the names that the box gives. */
export function measurements(stats: Stats | undefined): Measurement[] {
  if (!stats) return [];
  const unit = stats.unit ?? stats.lengthUnits;
  const pixels = stats.modalityUnit ?? stats.pixelValueUnits;
  const wanted: [string, string, unknown][] = [
    ["length", "length", unit],
    ["width", "width", unit],
    ["angle", "angle", "deg"],
    ["area", "area", stats.areaUnit ?? stats.areaUnits],
    ["perimeter", "perimeter", unit],
    ["radius", "radius", stats.radiusUnit ?? unit],
    ["mean", "mean", pixels],
    ["standard-deviation", "stdDev", pixels],
    ["minimum", "min", pixels],
    ["maximum", "max", pixels],
    ["value", "value", pixels],
  ];
  return wanted.flatMap(([name, key, from]) => {
    const value = stats[key];
    return typeof value === "number" && Number.isFinite(value)
      ? [{ name, value, unit: ucum(from) }]
      : [];
  });
}
