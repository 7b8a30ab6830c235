// SPDX-License-Identifier: Apache-2.0
// Windows that people expect under the digits; 0 is the window of the file.

import type { Window } from "./types";

export interface Preset extends Window {
  name: string;
}

const CT: readonly Preset[] = [
  { name: "abdomen", center: 60, width: 400 },
  { name: "lung", center: -400, width: 1600 },
  { name: "bone", center: 300, width: 1500 },
  { name: "brain", center: 40, width: 80 },
  { name: "chest", center: 40, width: 400 },
  { name: "angio", center: 300, width: 600 },
];

/** The presets of a modality; only Hounsfield units mean the same on every device. */
export const presetsOf = (modality: string): readonly Preset[] => (modality === "CT" ? CT : []);
