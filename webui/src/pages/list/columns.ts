// SPDX-License-Identifier: Apache-2.0
// Which columns this person wants to see.

import { computed, signal } from "@preact/signals";
import { COLUMNS } from "./cells";

const ALWAYS = new Set(["thumb", "patient"]);
const usual = () => new Set(COLUMNS.filter(({ extra }) => !extra).map(({ name }) => name));
const chosen = signal<ReadonlySet<string>>(usual());

export const shownColumns = computed(() => chosen.value);
export const choosable = COLUMNS.filter(({ name }) => !ALWAYS.has(name));

export function showColumn(name: string, on: boolean): void {
  const next = new Set(chosen.value);
  if (on) next.add(name);
  else next.delete(name);
  chosen.value = next;
}

/** Take over what the box kept; unknown names are of another release. */
export function showColumns(names: readonly string[]): void {
  const known = names.filter((name) => COLUMNS.some((column) => column.name === name));
  if (known.length) chosen.value = new Set([...ALWAYS, ...known]);
}

export const columnNames = (): string[] => [...chosen.value];
