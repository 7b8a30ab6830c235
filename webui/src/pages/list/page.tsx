// SPDX-License-Identifier: Apache-2.0
// The study list: the box searches, sorts, counts; this page asks for what is in view and shows it.

import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { speak } from "../../dom.js";
import { t } from "../../i18n.js";
import { currentStatus, onStatus } from "../../state.js";
import { Icon } from "../../ui/icon";
import { emptyArchive } from "../empty.js";
import { Actions } from "./actions";
import { Filters } from "./filters";
import { filtered, forgetFilters, found, launch, outdated, refused, reload } from "./model";
import { placesInView, Table } from "./table";

const status = signal(currentStatus());

function List() {
  const total = found.value;
  useEffect(() => {
    if (total !== null && filtered.value) speak(t("list.total", { n: total }));
  }, [total]);
  const nothing = total === 0 && !filtered.value && !outdated.value;
  return (
    <>
      <div class="page-head">
        <div>
          <h1>{t("list.title")}</h1>
          <p class="muted" role="status">
            {total === null || refused.value ? "" : t("list.total", { n: total })}
          </p>
        </div>
      </div>
      {!nothing && <Filters />}
      <Actions />
      <div class="section">
        <Content total={total} nothing={nothing} />
      </div>
    </>
  );
}

function Content({ total, nothing }: { total: number | null; nothing: boolean }) {
  if (refused.value) return <Failed />;
  if (nothing) return <EmptyArchive />;
  if (total === 0) return <NoMatch />;
  return <Table />;
}

function Failed() {
  const sentence =
    (refused.value as { sentence?: () => string }).sentence?.() ?? t("problem.unknown");
  return (
    <section class="card empty" role="alert">
      <Icon name="alert" />
      <h2>{t("list.failed")}</h2>
      <p>{sentence}</p>
      <button class="button primary" type="button" onClick={() => void reload(placesInView())}>
        <Icon name="reset" />
        {t("again")}
      </button>
    </section>
  );
}

function NoMatch() {
  return (
    <section class="card empty">
      <Icon name="search" />
      <h2>{t("list.none")}</h2>
      <p>{t("list.none.hint")}</p>
      <button class="button" type="button" onClick={forgetFilters}>
        {t("list.none.clear")}
      </button>
    </section>
  );
}

function EmptyArchive() {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    place.current?.replaceChildren(emptyArchive(status.value));
  }, [JSON.stringify(status.value?.providers)]);
  return <div ref={place} class="contents" />;
}

/** Draw the list into `place`, as the query of its address wants it; returns what ends it. */
export function listPage(place: HTMLElement, { query = "" } = {}): () => void {
  render(<List />, place);
  void (query ? launch(query) : reload());
  // new images show up by themselves where one looks
  let drawn = currentStatus()?.totals.instances;
  const stop = onStatus(() => {
    status.value = currentStatus();
    const now = currentStatus()?.totals.instances;
    if (now !== drawn || refused.value) void reload(placesInView());
    drawn = now;
  });
  return () => {
    stop();
    render(null, place);
  };
}
