// SPDX-License-Identifier: Apache-2.0
// What is asked of the box, which rows have come, and which are picked. Changed by functions here.

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import * as api from "../../api.js";
import { day } from "../../i18n.js";
import type { Page, StudyRow } from "./rows";

const PORTION = 60;
const MOST_KEPT = 40; // portions: a list of any length takes the memory of 2,400 rows
export const MODALITIES = ["CT", "MR", "CR", "DX", "US", "MG", "XA", "NM", "PT", "OT"];

export const PERIODS: Record<string, readonly [number, number] | null> = {
  all: null,
  today: [0, 0],
  yesterday: [1, 1],
  week: [6, 0],
  month: [30, 0],
};

export interface Question {
  search: string;
  modalities: ReadonlySet<string>;
  period: string;
  sort: string;
  order: "asc" | "desc";
  launched: readonly object[]; // filters that an address asked for
}

const FIRST: Question = {
  search: "",
  modalities: new Set(),
  period: "all",
  sort: "study_date",
  order: "desc",
  launched: [],
};

// what was asked for last outlives a visit to the viewer, and nothing else
const asked = signal<Question>(FIRST);
const total = signal<number | null>(null);
const portions = signal<ReadonlyMap<number, readonly StudyRow[]>>(new Map());
const failure = signal<unknown>(null);
const stale = signal(false);
const picked = signal<ReadonlyMap<string, StudyRow>>(new Map());

export const question: ReadonlySignal<Question> = asked;
export const found: ReadonlySignal<number | null> = total;
export const refused: ReadonlySignal<unknown> = failure;
export const outdated: ReadonlySignal<boolean> = stale;
export const selection: ReadonlySignal<ReadonlyMap<string, StudyRow>> = picked;
export const filtered = computed(() => {
  const { search, modalities, period, launched } = asked.value;
  return Boolean(search.trim() || modalities.size || PERIODS[period] || launched.length);
});

/** The row at this place of the list; undefined while it is on its way. */
export function rowAt(index: number): StudyRow | undefined {
  return portions.value.get(Math.floor(index / PORTION))?.[index % PORTION];
}

export function ask(change: Partial<Question>): void {
  asked.value = { ...asked.value, ...change };
  stale.value = true;
  void reload();
}

export const forgetFilters = (): void =>
  ask({ search: "", modalities: new Set(), period: "all", launched: [] });

/** Show what an address of the list asks for, and nothing else. */
export async function launch(query: string): Promise<void> {
  try {
    const { filters } = await api.parseLaunch("list", query);
    ask({ ...FIRST, launched: filters });
  } catch (error) {
    failure.value = error;
  }
}

export function toggleModality(name: string): void {
  const modalities = new Set(asked.value.modalities);
  if (!modalities.delete(name)) modalities.add(name);
  ask({ modalities });
}

export function pick(row: StudyRow, on: boolean): void {
  const next = new Map(picked.value);
  if (on) next.set(row.study_instance_uid, row);
  else next.delete(row.study_instance_uid);
  picked.value = next;
}

export function pickNothing(): void {
  picked.value = new Map();
}

function query(portion: number) {
  const { search, modalities, period, sort, order, launched } = asked.value;
  const filters: object[] = [...launched];
  if (modalities.size) filters.push({ field: "modalities", values: [...modalities] });
  const days = PERIODS[period];
  if (days) filters.push({ field: "study_date", operator: "range", values: days.map(day) });
  return {
    search: search.trim().normalize("NFC"),
    filters,
    sort,
    order,
    offset: portion * PORTION,
    limit: PORTION,
  };
}

const running = new Map<number, AbortController>();
let round = 0;

/** Ask again for what is in view; rows that stand there stay until the new ones come. */
export async function reload(places: readonly [number, number] = [0, 0]): Promise<void> {
  round += 1;
  for (const controller of running.values()) controller.abort();
  running.clear();
  const [first, last] = places;
  const fresh = new Map<number, readonly StudyRow[]>();
  const mine = round;
  for (
    let portion = Math.floor(first / PORTION);
    portion <= Math.floor(last / PORTION);
    portion++
  ) {
    const page = await fetched(portion);
    if (!page || mine !== round) return;
    fresh.set(portion, page.rows);
    total.value = page.total;
  }
  portions.value = fresh;
  stale.value = false;
}

/** See to it that the rows of these places come. */
export function need(first: number, last: number): void {
  for (
    let portion = Math.floor(first / PORTION);
    portion <= Math.floor(last / PORTION);
    portion++
  ) {
    if (!portions.value.has(portion) && !running.has(portion)) void take(portion);
  }
}

async function take(portion: number): Promise<void> {
  const mine = round;
  const page = await fetched(portion);
  if (!page || mine !== round) return;
  const next = new Map(portions.value);
  next.set(portion, page.rows);
  while (next.size > MOST_KEPT) {
    const farthest = [...next.keys()].reduce((a, b) =>
      Math.abs(a - portion) > Math.abs(b - portion) ? a : b,
    );
    next.delete(farthest);
  }
  portions.value = next;
  total.value = page.total;
}

async function fetched(portion: number): Promise<Page | null> {
  const controller = new AbortController();
  running.set(portion, controller);
  try {
    const page: Page = await api.searchStudies(query(portion), controller.signal);
    failure.value = null;
    return page;
  } catch (error) {
    if (!controller.signal.aborted && (error as { status?: number }).status !== 401) {
      failure.value = error;
    }
    return null;
  } finally {
    if (running.get(portion) === controller) running.delete(portion);
  }
}
