// SPDX-License-Identifier: Apache-2.0
// Marks between the engine and the box's records: heard of, read out, put back.

import { type Types as Core, eventTarget, metaData, utilities } from "@cornerstonejs/core";
import { annotation, Enums } from "@cornerstonejs/tools";
import {
  boxPoints,
  boxTool,
  enginePoints,
  engineTool,
  type MarkRecord,
  measurements,
  type Point,
} from "../records";
import { imageIdOf } from "./boot";

type Mark = ReturnType<typeof annotation.state.getAllAnnotations>[number];

const IMAGE = /\/instances\/([^/]+)\/frames\/(\d+)/;
const { Events } = Enums;
const CHANGES = [
  Events.ANNOTATION_COMPLETED,
  Events.ANNOTATION_MODIFIED,
  Events.ANNOTATION_REMOVED,
];

/** Hear of every mark that is drawn, moved or removed; returns the end. */
export function onMarks(heard: () => void): () => void {
  for (const name of CHANGES) eventTarget.addEventListener(name, heard);
  return () => {
    for (const name of CHANGES) eventTarget.removeEventListener(name, heard);
  };
}

/** Every mark that the box can keep, as it stands now. */
export function records(): MarkRecord[] {
  return annotation.state.getAllAnnotations().flatMap((mark) => recordOf(mark) ?? []);
}

function recordOf(mark: Mark): MarkRecord | null {
  const imageId = mark.metadata?.referencedImageId;
  const place = imageId ? IMAGE.exec(imageId) : null;
  const named = boxTool(mark.metadata?.toolName ?? "");
  if (!imageId || !place || !named || !mark.annotationUID) return null;
  const closed = mark.data?.contour?.closed !== false;
  const world = (mark.data?.contour?.polyline ?? mark.data?.handles?.points ?? []) as Core.Point3[];
  const points = world.map((point) => utilities.worldToImageCoords(imageId, point) as Point);
  if (!points.length || points.flat().some((each) => !Number.isFinite(each))) return null;
  const tool = named === "freehand" && !closed ? "polyline" : named;
  const stats = mark.data?.cachedStats as Record<string, Record<string, unknown>> | undefined;
  return {
    id: mark.annotationUID,
    tool,
    sop_instance_uid: decodeURIComponent(place[1] as string),
    frame: Number(place[2]),
    points: boxPoints(named, points, closed),
    label: "",
    text: String(mark.data?.text ?? mark.data?.label ?? ""),
    measurements: measurements(stats && Object.values(stats)[0]),
  };
}

/** Draw a kept mark again, if its image is known here; tells whether it is. */
export function putBack(record: MarkRecord): boolean {
  const imageId = imageIdOf(record.sop_instance_uid, record.frame);
  const plane = metaData.get("imagePlaneModule", imageId);
  const toolName = engineTool(record.tool);
  if (!plane || !toolName || annotation.state.getAnnotation(record.id)) return Boolean(plane);
  const points = enginePoints(record.tool, record.points).map(
    (point) => utilities.imageToWorldCoords(imageId, point) as Core.Point3,
  );
  const contour = toolName === "PlanarFreehandROI";
  const mark = {
    annotationUID: record.id,
    highlighted: false,
    invalidated: true,
    isLocked: false,
    isVisible: true,
    metadata: {
      toolName,
      FrameOfReferenceUID: plane.frameOfReferenceUID,
      referencedImageId: imageId,
      viewPlaneNormal: cross(plane.rowCosines, plane.columnCosines),
      viewUp: plane.columnCosines.map((each: number) => -each),
    },
    data: {
      text: record.text,
      label: record.text,
      cachedStats: {},
      handles: {
        points: contour ? [] : points,
        activeHandleIndex: null,
        textBox: { hasMoved: false },
      },
      ...(contour ? { contour: { polyline: points, closed: record.tool === "freehand" } } : {}),
    },
  };
  annotation.state.addAnnotation(mark as never, plane.frameOfReferenceUID);
  return true;
}

function cross(a: number[], b: number[]): number[] {
  const [ax = 0, ay = 0, az = 0] = a;
  const [bx = 0, by = 0, bz = 0] = b;
  return [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx];
}

/** Forget every mark: another study comes. */
export const forgetMarks = (): void => annotation.state.removeAllAnnotations();
