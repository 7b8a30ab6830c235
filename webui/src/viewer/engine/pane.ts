// SPDX-License-Identifier: Apache-2.0
// One picture area that shows a stack of images with their full pixels.

import {
  type Types as Core,
  Enums as CoreEnums,
  metaData,
  type RenderingEngine,
  utilities,
} from "@cornerstonejs/core";
import { utilities as toolUtilities } from "@cornerstonejs/tools";
import type { Window } from "../types";
import { group } from "./tools";

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
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(element);
    this.#ends.push(() => observer.disconnect());
  }

  #hear(name: string, heard: () => void): void {
    this.#element.addEventListener(name, heard);
    this.#ends.push(() => this.#element.removeEventListener(name, heard));
  }

  /** A picture that fills its pane goes on filling it; one that was zoomed keeps its place. */
  #resized(): void {
    const viewport = this.#viewport;
    const [x, y] = viewport.getPan();
    const fitted = Math.abs(viewport.getZoom() - 1) < 1e-3 && Math.hypot(x, y) < 1;
    this.#engine.resize(true, true);
    if (!fitted) return;
    viewport.resetCamera({ resetPan: true, resetZoom: true, resetToCenter: true });
    viewport.render();
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
    if (imageIds.length > 1) toolUtilities.stackContextPrefetch.enable(this.#element);
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
    toolUtilities.stackContextPrefetch.disable(this.#element);
    group().removeViewports(this.#engine.id, this.#id);
    this.#engine.disableElement(this.#id);
  }
}
