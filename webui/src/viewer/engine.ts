// SPDX-License-Identifier: Apache-2.0
// The only place that imports the imaging engine. It starts once; panes come and go.

import {
  type Types as Core,
  Enums as CoreEnums,
  cache,
  init as initCore,
  metaData,
  RenderingEngine,
  utilities,
} from "@cornerstonejs/core";
import { init as initLoader, wadors } from "@cornerstonejs/dicom-image-loader";
import {
  AdvancedMagnifyTool,
  AngleTool,
  ArrowAnnotateTool,
  addTool,
  annotation,
  BidirectionalTool,
  CircleROITool,
  CobbAngleTool,
  EllipticalROITool,
  init as initTools,
  LengthTool,
  PanTool,
  PlanarFreehandROITool,
  PlanarRotateTool,
  ProbeTool,
  RectangleROITool,
  ReferenceLinesTool,
  StackScrollTool,
  Enums as ToolEnums,
  ToolGroupManager,
  utilities as toolUtilities,
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";
import type { DicomJson, Window } from "./types";

const { MouseBindings } = ToolEnums;
const GROUP = "scrigno";
const ENGINE = "scrigno";
const MEGABYTE = 1 << 20;
const SMALL_DEVICE_GIB = 4;

const MANIPULATORS = {
  window: WindowLevelTool,
  pan: PanTool,
  zoom: ZoomTool,
  scroll: StackScrollTool,
  rotate: PlanarRotateTool,
  magnify: AdvancedMagnifyTool,
};
const MEASURES = {
  length: LengthTool,
  angle: AngleTool,
  cobb: CobbAngleTool,
  ellipse: EllipticalROITool,
  circle: CircleROITool,
  rectangle: RectangleROITool,
  freehand: PlanarFreehandROITool,
  bidirectional: BidirectionalTool,
  probe: ProbeTool,
  text: ArrowAnnotateTool,
};
const TOOLS = { ...MANIPULATORS, ...MEASURES };

export type ToolName = keyof typeof TOOLS;
export const isMeasure = (name: ToolName): boolean => name in MEASURES;

let starting: Promise<RenderingEngine> | null = null;

/** Start the engine once; every later call returns the same one. */
export function boot(): Promise<RenderingEngine> {
  starting ??= start();
  return starting;
}

async function start(): Promise<RenderingEngine> {
  await initCore();
  initLoader({ maxWebWorkers: Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1)) });
  await initTools();
  const memory = (navigator as { deviceMemory?: number }).deviceMemory ?? SMALL_DEVICE_GIB;
  cache.setMaxCacheSize((memory <= SMALL_DEVICE_GIB ? 300 : 1200) * MEGABYTE);
  for (const tool of [...Object.values(TOOLS), ReferenceLinesTool]) addTool(tool);
  return new RenderingEngine(ENGINE);
}

/** Tell the engine what an image is before it is asked for; call after `boot`. */
export function describe(imageId: string, metadata: DicomJson): void {
  wadors.metaDataManager.add(imageId, metadata as never);
}

export const imageIdOf = (uid: string, frame: number): string =>
  `wadors:${new URL(`api/instances/${uid}/frames/${frame}`, document.baseURI).pathname}`;

/** What a pane tells whoever mounted it. */
export interface PaneListener {
  shown(index: number): void;
  window(window: Window | null): void;
  turned(edges: string[]): void;
  failed(index: number): void;
}

let panes = 0;

type Vector = readonly [number, number, number];

function cross(a: Vector, b: Vector): [number, number, number] {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** One picture area on the page. `dispose` gives everything back. */
export class Pane {
  readonly #id = `pane-${++panes}`;
  readonly #element: HTMLDivElement;
  readonly #engine: RenderingEngine;
  readonly #listener: PaneListener;
  readonly #ends: (() => void)[] = [];
  #imageIds: string[] = [];

  constructor(engine: RenderingEngine, element: HTMLDivElement, listener: PaneListener) {
    this.#engine = engine;
    this.#element = element;
    this.#listener = listener;
    engine.enableElement({
      viewportId: this.#id,
      element,
      type: CoreEnums.ViewportType.STACK,
      defaultOptions: { background: [0, 0, 0] },
    });
    group().addViewport(this.#id, engine.id);
    this.#hear(CoreEnums.Events.STACK_NEW_IMAGE, () => this.#listener.shown(this.index));
    this.#hear(CoreEnums.Events.CAMERA_MODIFIED, () => this.#listener.turned(this.orientation()));
    this.#hear(CoreEnums.Events.VOI_MODIFIED, () => this.#listener.window(this.window));
    const observer = new ResizeObserver(() => engine.resize(true, true));
    observer.observe(element);
    this.#ends.push(() => observer.disconnect());
  }

  #hear(name: string, heard: () => void): void {
    this.#element.addEventListener(name, heard);
    this.#ends.push(() => this.#element.removeEventListener(name, heard));
  }

  get #viewport(): Core.IStackViewport {
    return this.#engine.getViewport(this.#id) as Core.IStackViewport;
  }

  get id(): string {
    return this.#id;
  }

  get index(): number {
    return this.#viewport.getTargetImageIdIndex();
  }

  get length(): number {
    return this.#imageIds.length;
  }

  get window(): Window | null {
    const range = this.#viewport.getProperties().voiRange;
    if (!range) return null;
    const { windowCenter, windowWidth } = utilities.windowLevel.toWindowLevel(
      range.lower,
      range.upper,
    );
    return { center: windowCenter, width: windowWidth };
  }

  /** Show these images; the metadata of each has been described before. */
  async open(imageIds: string[], index = 0): Promise<void> {
    this.#imageIds = imageIds;
    try {
      await this.#viewport.setStack(imageIds, index);
    } catch {
      this.#listener.failed(index);
      return;
    }
    this.#viewport.render();
    this.#listener.shown(this.index);
    this.#listener.window(this.window);
  }

  async go(index: number): Promise<void> {
    const bounded = Math.max(0, Math.min(this.#imageIds.length - 1, index));
    if (bounded === this.index) return;
    try {
      await this.#viewport.setImageIdIndex(bounded);
    } catch {
      this.#listener.failed(bounded);
    }
  }

  setWindow(window: Window | null): void {
    if (window) {
      const voiRange = utilities.windowLevel.toLowHighRange(window.width, window.center);
      this.#viewport.setProperties({ voiRange });
    } else {
      this.#viewport.resetProperties();
    }
    this.#viewport.render();
  }

  /** Turn by quarter turns, mirror, negative; each adds to how the picture stands now. */
  turn(change: { quarters?: number; mirror?: boolean; flip?: boolean; invert?: boolean }): void {
    const viewport = this.#viewport;
    const view = viewport.getViewPresentation();
    const camera = viewport.getCamera();
    if (change.quarters) {
      viewport.setViewPresentation({
        ...view,
        rotation: ((view?.rotation ?? 0) + 90 * change.quarters + 360) % 360,
      });
    }
    if (change.mirror) viewport.setCamera({ flipHorizontal: !camera.flipHorizontal });
    if (change.flip) viewport.setCamera({ flipVertical: !camera.flipVertical });
    if (change.invert) viewport.setProperties({ invert: !viewport.getProperties().invert });
    viewport.render();
  }

  /** Which way the edges of the picture lie in the patient (PS3.3 C.7.6.1.1.1), top then clockwise. */
  orientation(): string[] {
    const { viewUp, viewPlaneNormal } = this.#viewport.getCamera();
    const image = this.#viewport.getCurrentImageId();
    const plane = image && metaData.get("imagePlaneModule", image);
    if (!viewUp || !viewPlaneNormal || !plane?.imageOrientationPatient) return [];
    const { getOrientationStringLPS, invertOrientationStringLPS } = toolUtilities.orientation;
    const top = getOrientationStringLPS(viewUp);
    const right = getOrientationStringLPS(cross(viewUp, viewPlaneNormal));
    return [top, right, invertOrientationStringLPS(top), invertOrientationStringLPS(right)];
  }

  /** Back to how the file says it is shown. */
  reset(): void {
    this.#viewport.resetCamera();
    this.#viewport.resetProperties();
    this.#viewport.render();
  }

  render(): void {
    this.#viewport.render();
  }

  canvas(): HTMLCanvasElement {
    return this.#viewport.getCanvas();
  }

  dispose(): void {
    for (const end of this.#ends.splice(0)) end();
    group().removeViewports(this.#engine.id, this.#id);
    this.#engine.disableElement(this.#id);
  }
}

function group() {
  const found = ToolGroupManager.getToolGroup(GROUP);
  if (found) return found;
  const made = ToolGroupManager.createToolGroup(GROUP);
  if (!made) throw new Error("the engine gave no tool group");
  for (const tool of [...Object.values(TOOLS), ReferenceLinesTool]) made.addTool(tool.toolName);
  use("window", made);
  return made;
}

type Group = NonNullable<ReturnType<typeof ToolGroupManager.getToolGroup>>;

/** Give the left button and one finger to this tool; the other buttons keep theirs. */
export function use(name: ToolName, tools: Group = group()): void {
  const fixed: [ToolName, number, number][] = [
    ["pan", MouseBindings.Auxiliary, 2],
    ["zoom", MouseBindings.Secondary, 2],
    ["scroll", MouseBindings.Wheel, 3],
  ];
  for (const tool of Object.values(TOOLS))
    tools.setToolPassive(tool.toolName, { removeAllBindings: true });
  for (const [each, mouseButton, numTouchPoints] of fixed) {
    const bindings = [{ mouseButton }, { numTouchPoints }];
    if (each === name) bindings.push({ mouseButton: MouseBindings.Primary });
    tools.setToolActive(TOOLS[each].toolName, { bindings });
  }
  if (!fixed.some(([each]) => each === name)) {
    tools.setToolActive(TOOLS[name].toolName, {
      bindings: [{ mouseButton: MouseBindings.Primary }],
    });
  }
}

/** Draw in the other panes where the slice of `source` cuts them; null draws none. */
export function referenceLines(source: string | null): void {
  const tools = group();
  const name = ReferenceLinesTool.toolName;
  if (source === null) {
    tools.setToolDisabled(name);
  } else {
    tools.setToolConfiguration(name, { sourceViewportId: source });
    tools.setToolEnabled(name);
  }
}

export type Mark = ReturnType<typeof annotation.state.getAllAnnotations>[number];

/** Every mark that was drawn, of all images. */
export const marks = (): Mark[] => annotation.state.getAllAnnotations();

const history = utilities.HistoryMemo.DefaultHistoryMemo;

/** Take back, or do again, what was drawn last. */
export const undoMark = (): void => history.undo();
export const redoMark = (): void => history.redo();

export function removeMark(uid: string): void {
  annotation.state.removeAnnotation(uid);
}
