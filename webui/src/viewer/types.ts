// SPDX-License-Identifier: Apache-2.0
// What the viewer works on, as the box tells it. No framework, no engine.

export interface Instance {
  sop_instance_uid: string;
  sop_class_uid: string;
  transfer_syntax_uid: string;
  instance_number: number | null;
  number_of_frames: number | null;
  rows: number | null;
  columns: number | null;
}

export interface Series {
  series_instance_uid: string;
  modality: string;
  series_number: number | null;
  series_description: string;
  body_part_examined: string;
  number_of_instances: number;
  instances: Instance[];
}

export interface Study {
  study_instance_uid: string;
  study_description: string;
  study_date: string;
  modalities: string[];
}

/** Centre and width in the units of the modality LUT's output (Hounsfield units for CT). */
export interface Window {
  center: number;
  width: number;
}

/** One frame of one object; `frame` counts from 1, as DICOM does. */
export interface FrameRef {
  uid: string;
  frame: number;
}

/** What one pane can show: the frames of a series that stack, in order. */
export interface DisplaySet {
  series: Series;
  frames: FrameRef[];
  /** A multi-frame object plays at its own rate; 0 where nothing says one. */
  multiframe: boolean;
  /** The object whose document is shown, where there are no frames. */
  document?: string;
}

export type DicomJson = Record<string, { vr: string; Value?: unknown[]; InlineBinary?: string }>;
