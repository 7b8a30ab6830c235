// SPDX-License-Identifier: Apache-2.0
// The study list: the box searches, sorts, counts and pages; this page asks and shows.

import * as api from "../api.js";
import { h, icon, speak } from "../dom.js";
import { currentLanguage, day, dicomDate, dicomTime, number, personName, t } from "../i18n.js";
import { currentStatus, onStatus } from "../state.js";
import { emptyArchive } from "./empty.js";

const PAGE_SIZE = 50;
const TYPING_MS = 180;
const MODALITIES = ["CT", "MR", "CR", "DX", "US", "MG", "XA", "NM", "PT", "OT"];
const PERIODS = { all: null, today: [0, 0], yesterday: [1, 1], week: [6, 0], month: [30, 0] };

const COLUMNS = [
  { name: "thumb", draw: (row) => thumbnail(row) },
  { name: "patient", sort: "patient_name", draw: patient },
  { name: "birth", sort: "patient_birth_date", draw: birth },
  { name: "date", sort: "study_date", draw: date },
  { name: "modality", sort: "modalities", draw: (row) => row.modalities.map((each) => h("span", { class: "tag accent" }, each)) },
  { name: "description", sort: "study_description", draw: description },
  { name: "accession", sort: "accession_number", draw: (row) => h("span", { class: "clamp mono" }, row.accession_number) },
  { name: "images", sort: "number_of_instances", number: true, draw: images },
];

// what was asked for last outlives a visit to the viewer, and nothing else
const asked = { search: "", modalities: new Set(), period: "all", sort: "study_date", order: "desc", offset: 0 };

function query() {
  const filters = [];
  if (asked.modalities.size) filters.push({ field: "modalities", values: [...asked.modalities] });
  const period = PERIODS[asked.period];
  if (period) filters.push({ field: "study_date", operator: "range", values: period.map(day) });
  return { search: asked.search.trim().normalize("NFC"), filters, sort: asked.sort, order: asked.order, offset: asked.offset, limit: PAGE_SIZE };
}

const isFiltered = () => Boolean(asked.search.trim() || asked.modalities.size || PERIODS[asked.period]);

export function listPage(page) {
  const total = h("p", { class: "muted", role: "status" });
  const body = h("tbody", {});
  const head = h("tr", {});
  const table = h("div", { class: "card studies" }, h("table", {}, h("caption", { class: "visually-hidden" }, t("list.title")), h("thead", {}, head), body));
  const content = h("div", { class: "section" }, table);
  const pager = h("nav", { class: "pager", "aria-label": t("list.pages") });
  let running = null;
  let shown = "";
  let gone = false;

  const search = h("input", { class: "input", type: "search", "aria-label": t("list.search"), placeholder: t("list.search.hint"), ".value": asked.search, autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
  const clear = h("button", { class: "button quiet square", type: "button", "aria-label": t("list.search.clear"), hidden: !asked.search, onclick: () => { search.value = ""; typed(); search.focus(); } }, icon("close"));
  let typing = 0;
  const typed = () => {
    clear.hidden = !search.value;
    clearTimeout(typing);
    typing = setTimeout(() => change({ search: search.value }), TYPING_MS);
  };
  search.addEventListener("input", (event) => { if (!event.isComposing) typed(); });
  search.addEventListener("compositionend", typed);

  const period = h("select", { class: "input period", "aria-label": t("list.period"), onchange: () => change({ period: period.value }) },
    Object.keys(PERIODS).map((name) => h("option", { value: name, selected: name === asked.period }, t(`period.${name}`))));
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("list.modality") });
  const filters = h("div", { class: "filters" },
    h("div", { class: "filters-row" }, h("div", { class: "search" }, icon("search"), search, clear), period),
    chips);

  function change(news) {
    Object.assign(asked, { offset: 0 }, news);
    draw();
    load();
  }

  function draw() {
    chips.replaceChildren(...MODALITIES.map((name) => h("button", { class: "chip", type: "button", "aria-pressed": String(asked.modalities.has(name)), onclick: () => toggle(name) }, h("span", {}, name))));
    head.replaceChildren(...COLUMNS.map(heading));
  }

  function toggle(name) {
    const position = MODALITIES.indexOf(name);
    if (!asked.modalities.delete(name)) asked.modalities.add(name);
    change({});
    chips.children[position].focus();
  }

  function heading(column) {
    const attributes = { class: `col-${column.name}${column.number ? " number" : ""}`, scope: "col" };
    if (!column.sort) return h("th", attributes, h("span", { class: "visually-hidden" }, t(`column.${column.name}`)));
    const active = asked.sort === column.sort;
    if (active) attributes["aria-sort"] = asked.order === "asc" ? "ascending" : "descending";
    const sort = () => {
      const order = active ? (asked.order === "asc" ? "desc" : "asc") : column.name === "date" || column.number ? "desc" : "asc";
      change({ sort: column.sort, order });
      head.querySelector(".sort[data-focus]")?.focus();
    };
    return h("th", attributes, h("button", { class: "sort", type: "button", "data-focus": active ? true : null, onclick: sort }, t(`column.${column.name}`), icon("arrow")));
  }

  async function load({ quiet = false } = {}) {
    if (quiet && running) return;
    running?.abort();
    const mine = new AbortController();
    running = mine;
    if (!quiet) {
      if (!body.childElementCount) body.replaceChildren(...ghosts());
      else table.classList.add("stale");
      content.setAttribute("aria-busy", "true");
    }
    try {
      const answer = await api.searchStudies(query(), mine.signal);
      if (!gone) show(answer, quiet);
    } catch (error) {
      if (error.name === "AbortError" || gone || error.status === 401) return;
      if (!quiet) failed(error);
    } finally {
      if (running === mine) {
        running = null;
        table.classList.remove("stale");
        content.removeAttribute("aria-busy");
      }
    }
  }

  function show(answer, quiet) {
    // The empty list also shows where to send, which comes with the status.
    const ports = answer.rows.length ? null : currentStatus()?.providers;
    const now = JSON.stringify([answer, currentLanguage(), ports]);
    if (quiet && now === shown) return;
    shown = now;
    if (!answer.rows.length && asked.offset > 0) {
      change({ offset: 0 });
      return;
    }
    total.textContent = t("list.total", { n: answer.total });
    filters.hidden = answer.total === 0 && !isFiltered();
    if (answer.rows.length) {
      body.replaceChildren(...answer.rows.map(line));
      content.replaceChildren(table);
    } else {
      content.replaceChildren(isFiltered() ? noMatch() : emptyArchive(currentStatus()));
    }
    drawPager(answer);
    if (!quiet && document.activeElement === search) speak(t("list.total", { n: answer.total }));
  }

  function failed(error) {
    shown = "";
    total.textContent = "";
    pager.replaceChildren();
    const sentence = error.sentence ? error.sentence() : t("problem.unknown");
    content.replaceChildren(h("section", { class: "card empty", role: "alert" }, icon("alert"), h("h2", {}, t("list.failed")), h("p", {}, sentence), h("button", { class: "button primary", type: "button", onclick: () => load() }, icon("reset"), t("again"))));
  }

  function noMatch() {
    return h("section", { class: "card empty" }, icon("search"), h("h2", {}, t("list.none")), h("p", {}, t("list.none.hint")), h("button", { class: "button", type: "button", onclick: () => {
      search.value = "";
      clear.hidden = true;
      period.value = "all";
      asked.modalities.clear();
      change({ search: "", period: "all" });
      search.focus();
    } }, t("list.none.clear")));
  }

  function drawPager(answer) {
    if (answer.total <= PAGE_SIZE) {
      pager.replaceChildren();
      return;
    }
    const first = answer.offset + 1;
    const last = answer.offset + answer.rows.length;
    const go = (offset) => () => { change({ offset }); scrollTo({ top: 0 }); };
    pager.replaceChildren(
      h("span", {}, t("list.range", { first, last, total: answer.total })),
      h("button", { class: "button square", type: "button", "aria-label": t("list.previous"), disabled: answer.offset === 0, onclick: go(Math.max(0, answer.offset - PAGE_SIZE)) }, icon("back")),
      h("button", { class: "button square", type: "button", "aria-label": t("list.next"), disabled: last >= answer.total, onclick: go(answer.offset + PAGE_SIZE) }, icon("forward")),
    );
  }

  page.append(h("div", { class: "page-head" }, h("div", {}, h("h1", {}, t("list.title")), total)), filters, content, pager);
  draw();
  load();
  // new images show up by themselves while the top of the list is looked at
  let drawn = currentStatus()?.totals.instances;
  const stop = onStatus(() => {
    const now = currentStatus()?.totals.instances;
    if (now !== drawn || (shown && !table.isConnected && !isFiltered())) load({ quiet: true });
    drawn = now;
  });
  return () => { gone = true; running?.abort(); clearTimeout(typing); stop(); };
}

function ghosts() {
  return Array.from({ length: 8 }, () => h("tr", { "aria-hidden": "true" }, COLUMNS.map((column) => h("td", { class: `col-${column.name}` }, column.name === "thumb" ? h("div", { class: "thumb" }) : [h("div", { class: "ghost wide" }), h("div", { class: "ghost short" })]))));
}

function line(row) {
  return h("tr", {}, COLUMNS.map((column) => h("td", { class: `col-${column.name}${column.number ? " number" : ""}` }, column.draw(row))));
}

function thumbnail(row) {
  const place = h("div", { class: "thumb", "aria-hidden": "true" });
  const picture = h("img", { src: api.studyThumbnail(row.study_instance_uid), alt: "", loading: "lazy", decoding: "async", onerror: () => place.replaceChildren(row.modalities[0] ?? icon("picture")) });
  place.append(picture);
  return place;
}

function patient(row) {
  const [name, other] = personName(row.patient_name);
  return [
    h("a", { class: "clamp", href: `#/viewer?studyinstanceuid=${encodeURIComponent(row.study_instance_uid)}` }, name || t("list.noname")),
    h("span", { class: "second" }, h("span", { class: "mono" }, row.patient_id), other ? ` · ${other}` : ""),
  ];
}

const SEX = { M: "sex.m", F: "sex.f", O: "sex.o" };

function birth(row) {
  return [h("span", {}, dicomDate(row.patient_birth_date)), h("span", { class: "second" }, SEX[row.patient_sex] ? t(SEX[row.patient_sex]) : row.patient_sex)];
}

function date(row) {
  return [h("span", {}, dicomDate(row.study_date)), h("span", { class: "second" }, dicomTime(row.study_time))];
}

function description(row) {
  const below = [row.body_parts.join(", "), row.institution_name].filter(Boolean).join(" · ");
  const mark = row.protected && h("span", { class: "tag" }, t("list.protected"));
  return [h("span", { class: "clamp" }, row.study_description), h("span", { class: "second" }, mark, mark && below ? " " : "", below)];
}

function images(row) {
  return [h("span", {}, number(row.number_of_instances)), h("span", { class: "second" }, t("list.series", { n: row.number_of_series }))];
}
