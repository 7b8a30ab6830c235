// SPDX-License-Identifier: Apache-2.0
// The tools people draw and look with, and which of them has the left button and the finger.

import { utilities } from "@cornerstonejs/core";
import {
  AdvancedMagnifyTool,
  AngleTool,
  ArrowAnnotateTool,
  addTool,
  annotation,
  BidirectionalTool,
  CircleROITool,
  CobbAngleTool,
  CrosshairsTool,
  EllipticalROITool,
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
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";

const { MouseBindings } = ToolEnums;
const GROUP = "scrigno";

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

/** Make the tools known; once, at the start of the engine. */
export function registerTools(): void {
  for (const tool of [...Object.values(TOOLS), ReferenceLinesTool, CrosshairsTool]) addTool(tool);
}

/** The one set of tools that all stack panes share. */
export function group() {
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

/** The marks that somebody picked, by their ids. */
export const pickedMarks = (): string[] => annotation.selection.getAnnotationsSelected();

export function removeMark(uid: string): void {
  annotation.state.removeAnnotation(uid);
}
