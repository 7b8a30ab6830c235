// SPDX-License-Identifier: Apache-2.0
// What every page shares: who is logged in, and how the box is. Changed by the functions here only.

import * as api from "./api.js";
import { currentLanguage, deviceLanguage, rememberOnDevice, useLanguage } from "./i18n.js";

const POLL_MS = 3000; // when events do not reach us: the banner must be there within ten seconds
const CALM_POLL_MS = 15000; // while events come
const TOGETHER_MS = 150; // events of one moment make one question

const listeners = new Set();
let session = null;
let status = null;
let reachable = true;
let timer = 0;
let events = null;
let soon = 0;
let picked = ""; // a language picked before log-in: it goes with the account that logs in

export const currentSession = () => session;
export const currentStatus = () => status;
export const isReachable = () => reachable;
export const isAdministrator = () => session?.user?.role === "administrator";

/** Tell whether the account has this right; the box decides, this only hides what it would refuse. */
export const may = (right) => isAdministrator() || (session?.user?.permissions ?? []).includes(right);

/** Call `listener` after each change of status; the answer stops that. */
export function onStatus(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Ask the box who we are, and take the language that belongs to that. */
export async function refreshSession() {
  session = await api.session();
  if (session.user && picked) {
    await api.setLanguage(picked);
    session.user.language = picked;
    picked = "";
  }
  const wanted = session.user?.language || deviceLanguage(session.language);
  if (wanted !== currentLanguage() || !document.documentElement.dataset.ready) await useLanguage(wanted);
  document.documentElement.dataset.ready = "yes";
  if (session.user && !session.user.guest) startPolling(); // how the box is concerns no guest
  else stopPolling();
}

export async function pickLanguage(name) {
  rememberOnDevice(name);
  await useLanguage(name);
  if (session?.user) {
    await api.setLanguage(name);
    session.user.language = name;
  } else {
    picked = name;
  }
}

export function forgetSession() {
  if (session) session = { ...session, user: null };
  status = null;
  stopPolling();
}

/** Ask nothing more, as before a log-out: an answer "not logged in" would be no news. */
export function rest() {
  stopPolling();
}

function startPolling() {
  if (timer) return;
  const poll = async () => {
    if (document.visibilityState === "visible") await refreshStatus();
    if (timer) timer = setTimeout(poll, events?.readyState === EventSource.OPEN ? CALM_POLL_MS : POLL_MS);
  };
  timer = setTimeout(poll, 0);
  events = new EventSource("api/events");
  events.onerror = refreshSoon; // the box has gone, or our session has ended
  for (const name of ["volume", "alert", "studies", "inbox", "settings"]) events.addEventListener(name, refreshSoon);
}

function stopPolling() {
  clearTimeout(timer);
  clearTimeout(soon);
  events?.close();
  events = null;
  timer = soon = 0;
}

function refreshSoon() {
  if (soon || document.visibilityState !== "visible") return;
  soon = setTimeout(() => { soon = 0; refreshStatus(); }, TOGETHER_MS);
}

document.addEventListener("visibilitychange", () => {
  if (timer && document.visibilityState === "visible") refreshStatus();
});

async function refreshStatus() {
  try {
    status = await api.status();
    reachable = true;
  } catch (error) {
    if (error.code !== "network") return;
    reachable = false;
  }
  for (const listener of listeners) listener();
}
