// SPDX-License-Identifier: Apache-2.0
// Starting the imaging engine, once, and telling it what the images are.

import { cache, init as initCore, RenderingEngine } from "@cornerstonejs/core";
import { init as initLoader, wadors } from "@cornerstonejs/dicom-image-loader";
import { init as initTools } from "@cornerstonejs/tools";
import type { DicomJson } from "../types";
import { registerTools } from "./tools";

const ENGINE = "scrigno";
const VOI_LUT_FUNCTION = "00281056";
const MEGABYTE = 1 << 20;
const SMALL_DEVICE_GIB = 4;

let starting: Promise<RenderingEngine> | null = null;

/** Start the engine once; every later call returns the same one. */
export function boot(): Promise<RenderingEngine> {
  starting ??= start();
  return starting;
}

async function start(): Promise<RenderingEngine> {
  await initCore();
  initLoader({
    maxWebWorkers: Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1)),
    // the address of a frame names it; its values stand below
    open: (xhr: XMLHttpRequest, url: string) => xhr.open("GET", `${url}/pixels`),
  });
  await initTools();
  const memory = (navigator as { deviceMemory?: number }).deviceMemory ?? SMALL_DEVICE_GIB;
  cache.setMaxCacheSize((memory <= SMALL_DEVICE_GIB ? 300 : 1200) * MEGABYTE);
  registerTools();
  return new RenderingEngine(ENGINE);
}

/** Tell the engine what an image is before it is asked for; call after `boot`. */
export function describe(imageId: string, metadata: DicomJson): void {
  const shape = metadata[VOI_LUT_FUNCTION];
  const [name] = shape?.Value ?? [];
  // loader 5.14 takes the first letter of a text here, and with it loses the window of the file
  if (shape && typeof name === "string") shape.Value = [[name]];
  wadors.metaDataManager.add(imageId, metadata as never);
}

export const imageIdOf = (uid: string, frame: number): string =>
  `wadors:${new URL(`api/instances/${uid}/frames/${frame}`, document.baseURI).pathname}`;
