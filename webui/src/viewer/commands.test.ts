// SPDX-License-Identifier: Apache-2.0
// @vitest-environment happy-dom
import { expect, test, vi } from "vitest";

// the engine needs a real browser; the table of commands does not
vi.mock("./engine/tools", () => ({}));

import { readdirSync, readFileSync } from "node:fs";
import { COMMANDS, commandOf } from "./commands";

const key = (name: string, more: KeyboardEventInit = {}) => {
  const event = new KeyboardEvent("keydown", { key: name, ...more });
  document.body.dispatchEvent(event);
  return event;
};

test("no key means two things", () => {
  const keys = COMMANDS.flatMap((each) => each.keys.map((name) => name.toLowerCase()));
  expect(new Set(keys).size).toBe(keys.length);
});

test("each command has a name in every language", () => {
  const folder = "public/locales";
  for (const file of readdirSync(folder)) {
    const texts = JSON.parse(readFileSync(`${folder}/${file}`, "utf8"));
    for (const { name } of COMMANDS) {
      expect(texts, file).toHaveProperty([`viewer.command.${name.replace(/\d+$/, "")}`]);
    }
  }
});

test("keys find their command, with shift and control", () => {
  expect(commandOf(key("w"))?.name).toBe("window");
  expect(commandOf(key("ArrowDown"))?.name).toBe("next");
  expect(commandOf(key("ArrowDown", { shiftKey: true }))?.name).toBe("forward10");
  expect(commandOf(key("z", { ctrlKey: true }))?.name).toBe("undo");
  expect(commandOf(key("?", { shiftKey: true }))?.name).toBe("help");
  expect(commandOf(key("W", { shiftKey: true }))).toBeUndefined();
});

test("nothing is done while somebody composes a character", () => {
  expect(commandOf(key("w", { isComposing: true }))).toBeUndefined();
});

test("nothing is done while somebody types", () => {
  const input = document.createElement("input");
  document.body.append(input);
  let found: unknown = "none";
  addEventListener(
    "keydown",
    (event) => {
      found = commandOf(event);
    },
    { once: true },
  );
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "w", bubbles: true }));
  expect(found).toBeUndefined();
});
