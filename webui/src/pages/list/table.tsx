// SPDX-License-Identifier: Apache-2.0
// The lines in view, drawn between two spacers as high as the lines above and below them.

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { t } from "../../i18n.js";
import { Icon } from "../../ui/icon";
import { COLUMNS, type Column } from "./cells";
import { shownColumns } from "./columns";
import { ask, found, need, outdated, pick, question, rowAt, selection } from "./model";
import type { StudyRow } from "./rows";

const GUESSED_PX = 69;
const BEYOND = 12; // lines drawn outside the view, so that a flick meets no gap
const GHOSTS = 8;

const view = signal<readonly [number, number]>([0, 30]);

export const placesInView = (): readonly [number, number] => view.value;

export function Table() {
  const body = useRef<HTMLTableSectionElement>(null);
  const height = useRef(GUESSED_PX);
  const total = found.value;
  const columns = COLUMNS.filter(({ name }) => shownColumns.value.has(name));

  useEffect(() => {
    const look = () => {
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / height.current) - BEYOND);
      const last = Math.ceil((innerHeight - top) / height.current) + BEYOND;
      if (first !== view.value[0] || last !== view.value[1]) view.value = [first, last];
    };
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, []);

  const count = total ?? GHOSTS;
  const first = Math.min(view.value[0], count);
  const last = Math.min(view.value[1], count);
  useEffect(() => {
    if (total) need(first, Math.max(first, last - 1));
  }, [total, first, last, outdated.value]);
  useLayoutEffect(() => {
    const line = body.current?.querySelector<HTMLElement>("tr.line");
    if (line?.offsetHeight) height.current = line.offsetHeight;
  });

  const places = Array.from({ length: last - first }, (_, i) => first + i);
  return (
    <div class={`card studies${outdated.value ? " stale" : ""}`}>
      <table aria-rowcount={total ?? -1} aria-busy={outdated.value}>
        <caption class="visually-hidden">{t("list.title")}</caption>
        <thead>
          <tr>
            <th class="col-pick" scope="col">
              <span class="visually-hidden">{t("list.pick")}</span>
            </th>
            {columns.map((column) => (
              <Heading key={column.name} column={column} />
            ))}
          </tr>
        </thead>
        <tbody ref={body}>
          <Spacer height={first * height.current} columns={columns.length + 1} />
          {places.map((place) => (
            <Line key={place} place={place} row={rowAt(place)} columns={columns} />
          ))}
          <Spacer height={(count - last) * height.current} columns={columns.length + 1} />
        </tbody>
      </table>
    </div>
  );
}

function Spacer({ height, columns }: { height: number; columns: number }) {
  if (height <= 0) return null;
  return (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: nothing in it takes the focus
    <tr class="spacer" aria-hidden="true">
      <td colSpan={columns} style={{ height: `${height}px` }} />
    </tr>
  );
}

function Heading({ column }: { column: Column }) {
  const { sort, order } = question.value;
  const words = t(`column.${column.name}`);
  const name = `col-${column.name}${column.number ? " number" : ""}`;
  if (!column.sort) {
    return (
      <th class={name} scope="col">
        <span class={column.name === "thumb" ? "visually-hidden" : "heading"}>{words}</span>
      </th>
    );
  }
  const active = sort === column.sort;
  const downFirst = column.number || column.name === "date" || column.name === "received";
  const next = active ? (order === "asc" ? "desc" : "asc") : downFirst ? "desc" : "asc";
  const direction = order === "asc" ? "ascending" : "descending";
  return (
    <th class={name} scope="col" {...(active ? { "aria-sort": direction } : {})}>
      <button
        class="sort"
        type="button"
        onClick={() => ask({ sort: column.sort as string, order: next })}
      >
        {words}
        <Icon name="arrow" />
      </button>
    </th>
  );
}

interface LineProps {
  place: number;
  row: StudyRow | undefined;
  columns: readonly Column[];
}

function Line({ place, row, columns }: LineProps) {
  if (!row) {
    return (
      // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a line on its way takes no focus
      <tr class="line" aria-hidden="true">
        <td class="col-pick" />
        {columns.map(({ name }) => (
          <td key={name} class={`col-${name}`}>
            {name === "thumb" ? (
              <div class="thumb" />
            ) : (
              <>
                <div class="ghost wide" />
                <div class="ghost short" />
              </>
            )}
          </td>
        ))}
      </tr>
    );
  }
  const picked = selection.value.has(row.study_instance_uid);
  return (
    <tr class="line" aria-rowindex={place + 1} aria-selected={picked}>
      <td class="col-pick">
        <label class="pick">
          <input
            type="checkbox"
            checked={picked}
            aria-label={t("list.pick.one")}
            onChange={(event) => pick(row, event.currentTarget.checked)}
          />
        </label>
      </td>
      {columns.map((column) => (
        <td key={column.name} class={`col-${column.name}${column.number ? " number" : ""}`}>
          {column.draw(row)}
        </td>
      ))}
    </tr>
  );
}
