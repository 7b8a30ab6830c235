// SPDX-License-Identifier: Apache-2.0
// Everything the viewer can be told to do, by name; buttons, keys and fingers use the same table.

import type { ToolName } from "./engine/tools";

/** What a command may use of the viewer. */
export interface Desk {
  pickTool(name: ToolName): void;
  step(images: number): void;
  goTo(image: "first" | "last"): void;
  jump(twentieths: number): void;
  stepSeries(series: number): void;
  nextPane(panes: number): void;
  turn(change: { quarters?: number; mirror?: boolean; flip?: boolean; invert?: boolean }): void;
  reset(): void;
  preset(number: number): void;
  grid(rows: number, columns: number): void;
  togglePlay(): void;
  toggleOverlays(): void;
  toggleReferenceLines(): void;
  toggleLink(): void;
  toggleFull(): void;
  togglePlanes(): void;
  deleteMark(): void;
  undo(): void;
  redo(): void;
  keyImage(): void;
  tags(): void;
  lighter(): void;
  help(): void;
}

export interface Command {
  name: string;
  /** As `KeyboardEvent.key` writes them; `Shift+` and `Ctrl+` before. */
  keys: readonly string[];
  icon: string;
  /** A tool stays picked; an action is done at once; hidden ones have a key and no button. */
  kind: "tool" | "action" | "hidden";
  run(desk: Desk): void;
}

const tool = (name: ToolName, icon: string, ...keys: string[]): Command => ({
  name,
  keys,
  icon,
  kind: "tool",
  run: (desk) => desk.pickTool(name),
});

const action = (
  name: string,
  icon: string,
  keys: string[],
  run: (desk: Desk) => void,
): Command => ({
  name,
  keys,
  icon,
  kind: "action",
  run,
});

const hidden = (name: string, keys: string[], run: (desk: Desk) => void): Command => ({
  name,
  keys,
  icon: "",
  kind: "hidden",
  run,
});

// the letters are those of IHE Basic Image Review where it names one
export const COMMANDS: readonly Command[] = [
  tool("window", "contrast", "w"),
  tool("scroll", "stack", "s"),
  tool("zoom", "zoom", "z"),
  tool("pan", "move", "t"),
  tool("magnify", "search", "g"),
  tool("length", "ruler", "d"),
  tool("angle", "angle", "a"),
  tool("cobb", "cobb", "b"),
  tool("ellipse", "ellipse", "e"),
  tool("rectangle", "rectangle", "q"),
  tool("freehand", "freehand", "f"),
  tool("bidirectional", "cross", "j"),
  tool("probe", "probe", "y"),
  tool("text", "text", "n"),
  action("rotate", "rotate", ["r"], (desk) => desk.turn({ quarters: 1 })),
  action("mirror", "mirror", ["h"], (desk) => desk.turn({ mirror: true })),
  action("invert", "invert", ["x"], (desk) => desk.turn({ invert: true })),
  action("play", "play", [" "], (desk) => desk.togglePlay()),
  action("keyimage", "star", ["k"], (desk) => desk.keyImage()),
  action("lines", "lines", ["l"], (desk) => desk.toggleReferenceLines()),
  action("planes", "planes", ["c"], (desk) => desk.togglePlanes()),
  action("link", "link", ["Shift+L"], (desk) => desk.toggleLink()),
  action("overlays", "eye", ["i"], (desk) => desk.toggleOverlays()),
  action("tags", "tags", ["Shift+T"], (desk) => desk.tags()),
  action("lighter", "light", ["Shift+M"], (desk) => desk.lighter()),
  action("reset", "reset", ["Escape"], (desk) => desk.reset()),
  action("help", "keyboard", ["?"], (desk) => desk.help()),
  hidden("rotateleft", ["Shift+R"], (desk) => desk.turn({ quarters: -1 })),
  hidden("flip", ["v"], (desk) => desk.turn({ flip: true })),
  hidden("previous", ["ArrowUp"], (desk) => desk.step(-1)),
  hidden("next", ["ArrowDown"], (desk) => desk.step(1)),
  hidden("back10", ["Shift+ArrowUp"], (desk) => desk.step(-10)),
  hidden("forward10", ["Shift+ArrowDown"], (desk) => desk.step(10)),
  hidden("first", ["Home"], (desk) => desk.goTo("first")),
  hidden("last", ["End"], (desk) => desk.goTo("last")),
  hidden("previousseries", ["PageUp"], (desk) => desk.stepSeries(-1)),
  hidden("nextseries", ["PageDown"], (desk) => desk.stepSeries(1)),
  hidden("previouspane", ["ArrowLeft"], (desk) => desk.nextPane(-1)),
  hidden("nextpane", ["ArrowRight"], (desk) => desk.nextPane(1)),
  hidden("full", ["Enter"], (desk) => desk.toggleFull()),
  hidden("delete", ["Backspace", "Delete"], (desk) => desk.deleteMark()),
  hidden("undo", ["Ctrl+z"], (desk) => desk.undo()),
  hidden("redo", ["Ctrl+y"], (desk) => desk.redo()),
  hidden("grid11", ["F1"], (desk) => desk.grid(1, 1)),
  hidden("grid12", ["F2"], (desk) => desk.grid(1, 2)),
  hidden("grid21", ["F3"], (desk) => desk.grid(2, 1)),
  hidden("grid22", ["F4"], (desk) => desk.grid(2, 2)),
  ...Array.from({ length: 7 }, (_, number) =>
    hidden(`preset${number}`, [String(number)], (desk) => desk.preset(number)),
  ),
];

const byKey = new Map(
  COMMANDS.flatMap((command) => command.keys.map((key) => [key.toLowerCase(), command])),
);
const byName = new Map(COMMANDS.map((command) => [command.name, command]));

/** The command of a key, or nothing while somebody types or composes a character. */
export function commandOf(event: KeyboardEvent): Command | undefined {
  if (event.isComposing || event.altKey || event.metaKey) return undefined;
  const target = event.target instanceof HTMLElement ? event.target : null;
  if (target?.matches("input:not([type=range]), select, textarea, [contenteditable]"))
    return undefined;
  if (target?.matches("button, a, summary") && (event.key === " " || event.key === "Enter"))
    return undefined;
  if (target?.matches("input[type=range]") && event.key.startsWith("Arrow")) return undefined;
  const shifted = event.shiftKey && event.key !== "?";
  const key = `${event.ctrlKey ? "ctrl+" : ""}${shifted ? "shift+" : ""}${event.key.toLowerCase()}`;
  return byKey.get(key);
}

export function command(name: string): Command {
  const found = byName.get(name);
  if (!found) throw new Error(`there is no command ${name}`);
  return found;
}
