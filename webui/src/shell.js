// SPDX-License-Identifier: Apache-2.0
// The frame around the pages: left menu in the order people know, banner, log-out, notice.

import * as api from "./api.js";
import { h, icon } from "./dom.js";
import { LANGUAGES, currentLanguage, t } from "./i18n.js";
import { currentSession, currentStatus, forgetSession, isAdministrator, isReachable, onStatus, pickLanguage, rest } from "./state.js";

const MENU = [
  { items: [
    { route: "#/list", icon: "list", text: "menu.studies" },
    { route: "#/dashboard", icon: "dashboard", text: "menu.dashboard", administrator: true },
  ] },
  { heading: "menu.admin", administrator: true, items: [
    { route: "#/admin/server/connection", icon: "connection", text: "menu.connection", count: pendingCount },
  ] },
  { heading: "menu.user", items: [
    { route: "#/profile", icon: "user", text: "menu.profile" },
    { route: "#/about", icon: "info", text: "menu.about" },
  ] },
];

let pending = 0;

function pendingCount() {
  return pending;
}

/** The page on connections tells how many nodes wait, so that the menu shows it. */
export function setPending(count) {
  pending = count;
  document.querySelectorAll("[data-count]").forEach((place) => {
    place.hidden = count === 0;
    place.textContent = String(count);
  });
}

function menuItem(item, route) {
  const active = route === item.route;
  const count = item.count ? h("span", { class: "count", "data-count": true, hidden: item.count() === 0 }, String(item.count())) : null;
  return h("li", {}, h("a", { class: "menu-item", href: item.route, "aria-current": active ? "page" : null }, icon(item.icon), h("span", {}, t(item.text)), count));
}

function menu(route) {
  const sections = MENU.filter((section) => !section.administrator || isAdministrator()).map((section) => {
    const items = section.items.filter((item) => !item.administrator || isAdministrator());
    return h("div", { class: "menu-section" }, section.heading ? h("h2", {}, t(section.heading)) : null, h("ul", {}, items.map((item) => menuItem(item, route))));
  });
  const name = currentSession().user.name;
  return h("aside", { class: "menu" },
    h("a", { class: "brand", href: "#/list" }, h("img", { src: "images/icon.svg", alt: "Scrigno" }), h("span", { "aria-hidden": "true" }, "Scrigno")),
    h("nav", { "aria-label": t("menu.label") }, h("div", { class: "menu-sections" }, sections)),
    h("div", { class: "menu-foot" },
      h("div", { class: "menu-user", title: name }, icon("user"), h("span", {}, name)),
      h("button", { class: "menu-item", type: "button", onclick: logOut }, icon("logout"), h("span", {}, t("menu.logout"))),
    ),
  );
}

async function logOut() {
  rest();
  try {
    await api.logout();
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  forgetSession();
  location.hash = "#/login";
}

/** What is wrong with the box, in one line; the same on every page. */
export function banner() {
  const place = h("div", { role: "status", "data-banner": true });
  let shown = "";
  const draw = () => {
    const worst = currentStatus()?.conditions.find((each) => each.level === "critical" || each.level === "warning");
    const now = JSON.stringify([isReachable(), worst ?? null]);
    if (now === shown) return;
    shown = now;
    place.className = "";
    place.replaceChildren();
    if (!isReachable()) {
      place.className = "banner warning";
      place.append(icon("alert"), h("p", {}, h("strong", {}, t("banner.unreachable")), " ", t("banner.unreachable.next")));
    } else if (worst) {
      place.className = `banner ${worst.level}`;
      place.append(icon("alert"), h("p", {}, h("strong", {}, worst.summary), " ", worst.next_step));
    }
    place.parentElement?.classList.toggle("with-banner", place.childElementCount > 0);
  };
  draw();
  const stop = onStatus(draw);
  return { place, stop, draw };
}

/** Draw the frame and return the place for the page and what to call when it goes. */
export function shell(route) {
  const top = banner();
  const page = h("main", { class: "page", id: "page" });
  const root = h("div", { class: "shell" },
    h("a", { class: "button primary skip", href: "#page", onclick: (event) => { event.preventDefault(); page.querySelector("h1")?.focus(); } }, t("skip")),
    menu(route),
    h("div", { class: "main" }, top.place, page, h("footer", { class: "page-foot" }, t("notice.diagnostic"))),
  );
  return { root, page, stop: top.stop };
}

/** A control that picks the language of the pages; `again` draws them anew. */
export function languagePick(again) {
  const select = h("select", { "aria-label": t("language"), onchange: async () => { await pickLanguage(select.value); again(); } },
    Object.entries(LANGUAGES).map(([code, name]) => h("option", { value: code, lang: code, selected: code === currentLanguage() }, name)));
  return h("span", { class: "language-pick" }, icon("globe"), select);
}
