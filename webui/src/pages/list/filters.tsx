// SPDX-License-Identifier: Apache-2.0
// Search as you type, the period, the modalities, and which columns are shown.

import { useRef, useState } from "preact/hooks";
import { t } from "../../i18n.js";
import { Icon } from "../../ui/icon";
import { choosable, showColumn, shownColumns } from "./columns";
import { ask, forgetFilters, MODALITIES, PERIODS, question, toggleModality } from "./model";

const TYPING_MS = 180;

export function Filters() {
  return (
    <div class="filters">
      <div class="filters-row">
        <Search />
        <select
          class="input period"
          aria-label={t("list.period")}
          value={question.value.period}
          onChange={(event) => ask({ period: event.currentTarget.value })}
        >
          {Object.keys(PERIODS).map((name) => (
            <option key={name} value={name}>
              {t(`period.${name}`)}
            </option>
          ))}
        </select>
        <ColumnPick />
      </div>
      {/* biome-ignore lint/a11y/useSemanticElements: chips, no form */}
      <div class="chips" role="group" aria-label={t("list.modality")}>
        {MODALITIES.map((name) => (
          <button
            key={name}
            class="chip"
            type="button"
            aria-pressed={question.value.modalities.has(name)}
            onClick={() => toggleModality(name)}
          >
            <span>{name}</span>
          </button>
        ))}
        {question.value.launched.length > 0 && (
          <button class="chip" type="button" aria-pressed="true" onClick={forgetFilters}>
            <Icon name="close" />
            <span>{t("list.launched")}</span>
          </button>
        )}
      </div>
    </div>
  );
}

function Search() {
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(question.value.search);
  const timer = useRef(0);
  const composing = useRef(false);
  if (question.value.search === "" && text !== "" && timer.current === 0) setText("");

  const typed = (now: string) => {
    setText(now);
    clearTimeout(timer.current);
    if (composing.current) return;
    timer.current = window.setTimeout(() => {
      timer.current = 0;
      ask({ search: now });
    }, TYPING_MS);
  };
  return (
    <div class="search">
      <Icon name="search" />
      <input
        ref={input}
        class="input"
        type="search"
        aria-label={t("list.search")}
        placeholder={t("list.search.hint")}
        value={text}
        autocomplete="off"
        spellcheck={false}
        enterkeyhint="search"
        onInput={(event) => typed(event.currentTarget.value)}
        onCompositionStart={() => {
          composing.current = true;
        }}
        onCompositionEnd={(event) => {
          composing.current = false;
          typed((event.currentTarget as HTMLInputElement).value);
        }}
      />
      {text && (
        <button
          class="button quiet square"
          type="button"
          aria-label={t("list.search.clear")}
          onClick={() => {
            typed("");
            input.current?.focus();
          }}
        >
          <Icon name="close" />
        </button>
      )}
    </div>
  );
}

function ColumnPick() {
  return (
    <details class="pick-columns">
      <summary class="button square" aria-label={t("list.columns")} title={t("list.columns")}>
        <Icon name="columns" />
      </summary>
      <div class="card popup">
        {choosable.map(({ name }) => (
          <label key={name}>
            <input
              type="checkbox"
              checked={shownColumns.value.has(name)}
              onChange={(event) => showColumn(name, event.currentTarget.checked)}
            />
            {t(`column.${name}`)}
          </label>
        ))}
      </div>
    </details>
  );
}
