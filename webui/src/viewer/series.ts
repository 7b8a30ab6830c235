// SPDX-License-Identifier: Apache-2.0
// Which frames belong together in one pane, and in which order. Pure functions.

import type { DisplaySet, FrameRef, Instance, Series } from "./types";

const hasPicture = (instance: Instance) => Boolean(instance.rows && instance.columns);

const framesOf = (instance: Instance): FrameRef[] =>
  Array.from({ length: instance.number_of_frames || 1 }, (_, index) => ({
    uid: instance.sop_instance_uid,
    frame: index + 1,
  }));

/** Instances of one size stack; a localizer of another size, a clip, a document stand alone. */
export function displaySets(series: Series): DisplaySet[] {
  const stacks = new Map<string, Instance[]>();
  for (const instance of series.instances.filter(hasPicture)) {
    const clip = (instance.number_of_frames ?? 1) > 1;
    const key = clip ? instance.sop_instance_uid : `${instance.rows}x${instance.columns}`;
    stacks.set(key, [...(stacks.get(key) ?? []), instance]);
  }
  const pictures = [...stacks.values()].map((instances) => ({
    series,
    frames: [...instances].sort(byNumber).flatMap(framesOf),
    multiframe: instances.length === 1 && (instances[0]?.number_of_frames ?? 1) > 1,
  }));
  const documents = series.instances
    .filter((instance) => !hasPicture(instance))
    .sort(byNumber)
    .map(({ sop_instance_uid }) => ({
      series,
      frames: [],
      multiframe: false,
      document: sop_instance_uid,
    }));
  return [...pictures, ...documents];
}

function byNumber(a: Instance, b: Instance): number {
  return (a.instance_number ?? 0) - (b.instance_number ?? 0);
}

/** Sort slices along the normal of the first one, when all of them say where they lie. */
export function alongNormal<T extends { position: number[] | null; orientation: number[] | null }>(
  slices: readonly T[],
): T[] {
  const first = slices[0]?.orientation;
  if (first?.length !== 6) return [...slices];
  const normal = cross(first.slice(0, 3), first.slice(3));
  const placed = slices.map((slice) => ({
    slice,
    at: slice.position ? dot(slice.position, normal) : Number.NaN,
  }));
  const parallel = slices.every((each) =>
    each.orientation?.every((value, i) => Math.abs(value - (first[i] ?? 0)) < 1e-3),
  );
  if (!parallel || placed.some(({ at }) => Number.isNaN(at))) return [...slices];
  const places = new Set(placed.map(({ at }) => Math.round(at * 100)));
  // several images in one place are a time series or echoes: the order of acquisition stays
  if (places.size !== slices.length) return [...slices];
  return placed.sort((a, b) => a.at - b.at).map(({ slice }) => slice);
}

function cross(a: number[], b: number[]): number[] {
  const [ax = 0, ay = 0, az = 0] = a;
  const [bx = 0, by = 0, bz = 0] = b;
  return [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx];
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}
