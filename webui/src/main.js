// SPDX-License-Identifier: Apache-2.0
// Which page belongs to the address, and drawing it. Routes are those of the product before us.

import { logInWith, takeBrought } from "./launch.js"; // the first of all: it cleans the address
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/entry.css";
import "./styles/list.css";
import "./styles/viewer.css";
import "./styles/admin.css";
import * as api from "./api.js";
import { onLoggedOut } from "./api.js";
import { h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { aboutPage } from "./pages/about.js";
import { claimPage } from "./pages/claim.js";
import { connectionPage } from "./pages/connection.js";
import { dashboardPage } from "./pages/dashboard.js";
import { listPage } from "./pages/list/page";
import { loginPage } from "./pages/login.js";
import { profilePage } from "./pages/profile.js";
import { sharedPage } from "./pages/shared.js";
import { afterLogin } from "./pages/steps";
import { viewerPage } from "./pages/viewer.js";
import { shell } from "./shell.js";
import { currentSession, forgetSession, isAdministrator, refreshSession } from "./state.js";

const PAGES = {
  "#/list": { draw: listPage },
  "#/dashboard": { draw: dashboardPage, administrator: true },
  "#/admin/server/connection": { draw: connectionPage, administrator: true },
  "#/profile": { draw: profilePage },
  "#/about": { draw: aboutPage },
};

const app = document.getElementById("app");
let wanted = ""; // where to go after log-in
let leave = () => {};

/** `#/viewer?studyinstanceuid=1.2.3` as route and parameters; keys are blind to case. */
function address() {
  const [route, query = ""] = location.hash.split("?");
  const parameters = new Map([...new URLSearchParams(query)].map(([key, value]) => [key.toLowerCase(), value]));
  return { route: route.toLowerCase() || "#/list", parameters, query };
}

const UID = /^[0-9]+(\.[0-9]+)*$/;

/** The viewer shows a study by its UID; whatever else an address names, the box looks it up. */
async function lookUp(query) {
  let uid = "";
  try {
    uid = (await api.parseLaunch("viewer", query)).studies[0] ?? "";
  } catch (error) {
    if (!error.sentence) throw error;
  }
  history.replaceState(history.state, "", `#/viewer?studyinstanceuid=${uid}`);
  draw();
}

function show(root, stop = () => {}) {
  app.replaceChildren(root);
  leave = stop;
}

function draw() {
  leave();
  const session = currentSession();
  const { route, parameters, query } = address();
  if (!session.claimed) {
    show(claimPage(enter, draw));
  } else if (!session.user) {
    if (route !== "#/login") wanted = location.hash;
    show(loginPage(enter, draw, (page) => { show(page); focusFirst(); }));
  } else if (route === "#/viewer" && query && !UID.test(parameters.get("studyinstanceuid") ?? "") && parameters.get("studyinstanceuid") !== "") {
    show(h("main", { class: "empty" }, h("h1", {}, t("loading"))));
    void lookUp(query);
  } else if (route === "#/viewer") {
    const page = viewerPage(parameters);
    show(page.root, page.stop);
  } else {
    const page = PAGES[route];
    if (!page || (page.administrator && !isAdministrator())) {
      location.replace("#/list");
      return;
    }
    const frame = shell(route);
    const stop = page.draw(frame.page, { again: draw, query }) ?? (() => {});
    show(frame.root, () => { stop(); frame.stop(); });
  }
  focusFirst();
}

function focusFirst() {
  const heading = app.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  (app.querySelector("[data-focus-first]") ?? heading)?.focus({ preventScroll: true });
}

/** After claim or log-in: on to the page that was asked for. */
async function enter() {
  await refreshSession();
  const next = wanted && !wanted.startsWith("#/login") ? wanted : "#/list";
  wanted = "";
  if (location.hash === next) draw();
  else location.hash = next;
}

onLoggedOut(() => {
  if (!currentSession()?.user) return;
  forgetSession();
  draw();
});

/** An address may bring its own log-in; whoever was logged in before does not stand in for it. */
async function launch() {
  const secrets = takeBrought();
  if (!secrets) return false;
  if (secrets.shared) {
    await sharedPage(secrets.shared, { show: (page) => { show(page); focusFirst(); }, again: draw, inside: enterShared });
    return true;
  }
  try {
    const answer = await logInWith(secrets, api);
    if (!answer) return false;
    wanted = location.hash;
    await afterLogin(answer, { draw: (page) => { show(page); focusFirst(); }, enter, again: draw });
  } catch (error) {
    if (!error.sentence) throw error;
    forgetSession();
    draw();
    app.querySelector("form [role=alert]")?.replaceChildren(h("div", { class: "notice danger" }, icon("alert"), h("p", {}, error.sentence())));
  }
  return true;
}

async function enterShared({ studies }) {
  wanted = studies.length === 1 ? `#/viewer?studyinstanceuid=${studies[0]}` : "#/list";
  await enter();
}

async function start() {
  try {
    await refreshSession();
  } catch {
    show(h("main", { class: "empty" }, icon("alert"), h("h1", {}, t("banner.unreachable")), h("button", { class: "button primary", type: "button", onclick: start }, t("again"))));
    return;
  }
  addEventListener("hashchange", async () => { if (!(await launch())) draw(); });
  if (!(await launch())) draw();
}

start();
