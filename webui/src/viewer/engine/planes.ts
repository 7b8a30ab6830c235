// SPDX-License-Identifier: Apache-2.0
// Three planes through one volume with a cross-hair, and thick slabs (MIP, MinIP, mean).

import {
  type Types as Core,
  Enums as CoreEnums,
  type RenderingEngine,
  setVolumesForViewports,
  utilities,
  volumeLoader,
} from "@cornerstonejs/core";
import {
  CrosshairsTool,
  PanTool,
  StackScrollTool,
  Enums as ToolEnums,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";
import type { Window } from "../types";

const { MouseBindings } = ToolEnums;
const { OrientationAxis, BlendModes } = CoreEnums;
const GROUP = "scrigno-planes";

export const PLANES = ["axial", "sagittal", "coronal"] as const;
export type Plane = (typeof PLANES)[number];

const BLENDS = {
  thin: BlendModes.COMPOSITE,
  mip: BlendModes.MAXIMUM_INTENSITY_BLEND,
  minip: BlendModes.MINIMUM_INTENSITY_BLEND,
  mean: BlendModes.AVERAGE_INTENSITY_BLEND,
} as const;
export type Blend = keyof typeof BLENDS;

const COLOURS: Record<Plane, string> = {
  axial: "rgb(92, 197, 210)",
  sagittal: "rgb(243, 189, 95)",
  coronal: "rgb(150, 210, 120)",
};

let made = 0;

export class Planes {
  readonly #engine: RenderingEngine;
  readonly #ids: Record<Plane, string>;
  readonly #number = ++made;

  constructor(engine: RenderingEngine, elements: Record<Plane, HTMLDivElement>) {
    this.#engine = engine;
    this.#ids = {
      axial: this.#id("axial"),
      sagittal: this.#id("sagittal"),
      coronal: this.#id("coronal"),
    };
    for (const plane of PLANES) {
      engine.enableElement({
        viewportId: this.#ids[plane],
        element: elements[plane],
        type: CoreEnums.ViewportType.ORTHOGRAPHIC,
        defaultOptions: {
          background: [0, 0, 0],
          orientation: OrientationAxis[plane.toUpperCase() as Uppercase<Plane>],
        },
      });
    }
  }

  #id(plane: Plane): string {
    return `plane-${this.#number}-${plane}`;
  }

  #viewports(): Core.IVolumeViewport[] {
    return PLANES.map(
      (plane) => this.#engine.getViewport(this.#ids[plane]) as Core.IVolumeViewport,
    );
  }

  /** Load the slices as one volume and show its three planes; resolves when the first are drawn. */
  async open(imageIds: string[], window: Window | null): Promise<void> {
    const volumeId = `cornerstoneStreamingImageVolume:planes-${this.#number}`;
    const volume = await volumeLoader.createAndCacheVolume(volumeId, { imageIds });
    (volume as unknown as { load: () => void }).load();
    await setVolumesForViewports(this.#engine, [{ volumeId }], Object.values(this.#ids));
    if (window) this.setWindow(window);
    this.#tools();
    this.#engine.renderViewports(Object.values(this.#ids));
  }

  #tools(): void {
    ToolGroupManager.destroyToolGroup(GROUP);
    const tools = ToolGroupManager.createToolGroup(GROUP);
    if (!tools) throw new Error("the engine gave no tool group");
    const colourOf = (id: string) =>
      COLOURS[PLANES.find((plane) => this.#ids[plane] === id) ?? "axial"];
    tools.addTool(CrosshairsTool.toolName, {
      getReferenceLineColor: colourOf,
      getReferenceLineControllable: () => true,
      getReferenceLineDraggableRotatable: () => true,
      getReferenceLineSlabThicknessControlsOn: () => false,
    });
    for (const tool of [WindowLevelTool, PanTool, ZoomTool, StackScrollTool])
      tools.addTool(tool.toolName);
    for (const id of Object.values(this.#ids)) tools.addViewport(id, this.#engine.id);
    const active = (name: string, mouseButton: number, numTouchPoints?: number) =>
      tools.setToolActive(name, {
        bindings: numTouchPoints ? [{ mouseButton }, { numTouchPoints }] : [{ mouseButton }],
      });
    active(CrosshairsTool.toolName, MouseBindings.Primary);
    active(PanTool.toolName, MouseBindings.Auxiliary);
    active(ZoomTool.toolName, MouseBindings.Secondary, 2);
    active(StackScrollTool.toolName, MouseBindings.Wheel, 3);
  }

  setWindow(window: Window): void {
    const voiRange = utilities.windowLevel.toLowHighRange(window.width, window.center);
    for (const viewport of this.#viewports()) {
      viewport.setProperties({ voiRange });
      viewport.render();
    }
  }

  /** Show thin slices, or slabs of this thickness in mm. */
  setSlab(blend: Blend, thickness: number): void {
    for (const viewport of this.#viewports()) {
      viewport.setBlendMode(BLENDS[blend]);
      if (blend === "thin") viewport.resetSlabThickness();
      else viewport.setSlabThickness(thickness);
      viewport.render();
    }
  }

  resize(): void {
    this.#engine.resize(true, true);
  }

  dispose(): void {
    ToolGroupManager.destroyToolGroup(GROUP);
    for (const id of Object.values(this.#ids)) this.#engine.disableElement(id);
  }
}
