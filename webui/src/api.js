// SPDX-License-Identifier: Apache-2.0
// The only place that knows URLs of the box. Refusals become ApiError with the box's stable code.

import { currentLanguage, has, t } from "./i18n.js";

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.code ?? `status-${status}`);
    this.status = status;
    this.code = problem.code ?? `status-${status}`;
    this.problem = problem;
  }

  /** The sentence for people: from our catalogue by code, else the box's own. */
  sentence() {
    const key = this.problem.rule ? `problem.${this.code}.${this.problem.rule}` : `problem.${this.code}`;
    if (has(key)) return t(key, { seconds: this.problem.retry_after_s ?? 0 });
    return [this.problem.detail, this.problem.next_step].filter(Boolean).join(" ") || t("problem.unknown");
  }
}

let whenLoggedOut = () => {};

/** Call this when the box says that the session is over. */
export function onLoggedOut(callback) {
  whenLoggedOut = callback;
}

async function ask(method, path, { body, signal, revision, expect401 = false } = {}) {
  let answer;
  try {
    answer = await fetch(`api${path}`, {
      method,
      signal,
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(revision === undefined ? {} : { "If-Match": `"${revision}"` }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "network" });
  }
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // not from our box: a proxy's page
  }
  if (answer.status === 401 && !expect401) whenLoggedOut();
  throw new ApiError(answer.status, problem);
}

async function json(...request) {
  const answer = await ask(...request);
  return answer.status === 204 ? null : answer.json();
}

const part = encodeURIComponent;

export const session = () => json("GET", "/session");
export const login = (user, password) =>
  json("POST", "/login", { body: { user, password, cookie: true }, expect401: true });
export const secondFactor = (body) => json("POST", "/login/second-factor", { body, expect401: true });
export const enrol = (ticket) => json("POST", "/login/enrol", { body: { ticket }, expect401: true });
export const confirmEnrol = (body) => json("POST", "/login/enrol/confirm", { body, expect401: true });
export const newPassword = (body) => json("POST", "/login/new-password", { body, expect401: true });
export const claim = (setup_code, user, password) =>
  json("POST", "/claim", { body: { setup_code, user, password, cookie: true }, expect401: true });
export const launchByPassword = (id, password) =>
  json("POST", "/launch/login", { body: { id, password, cookie: true }, expect401: true });
export const launchByCode = (code) =>
  json("POST", "/otp/login", { body: { code, cookie: true }, expect401: true });
export const launchByToken = (token) =>
  json("POST", "/launch/enter", { body: { token, cookie: true }, expect401: true });
export const parseLaunch = (route, query, signal) =>
  json("POST", "/launch/parse", { body: { route, query }, signal });
export const lookAtShared = (token) => json("POST", "/shared/look", { body: { token } });
export const enterShared = (token, secret) =>
  json("POST", "/shared/enter", { body: { token, secret, cookie: true } });
export const logout = () => json("POST", "/logout");
export const setLanguage = (language) => json("PATCH", "/account", { body: { language } });
export const setPassword = (old, fresh) =>
  json("POST", "/account/password", { body: { old, new: fresh }, expect401: true });

export const status = (signal) => json("GET", `/status?language=${currentLanguage()}`, { signal });
export const alerts = () => json("GET", `/alerts?language=${currentLanguage()}`);
export const acknowledge = (id) => json("POST", `/alerts/${part(id)}/acknowledge`, { body: {} });
export const machine = () => json("GET", "/machine");
export const volumes = () => json("GET", "/volumes");
export const searchStudies = (query, signal) => json("POST", "/studies/search", { body: query, signal });
export const study = (uid, signal) => json("GET", `/studies/${part(uid)}`, { signal });
export const protectStudy = (uid, on) => json(on ? "PUT" : "DELETE", `/studies/${part(uid)}/protection`);
export const deleteStudy = (uid, reason) => json("DELETE", `/studies/${part(uid)}`, { body: { reason } });
export const restoreTrash = (id) => json("POST", `/trash/${part(id)}/restore`);
export const studyThumbnail = (uid) => `api/studies/${part(uid)}/thumbnail`;
export const frameThumbnail = (uid, frame) => `api/instances/${part(uid)}/frames/${frame}/rendered?size=192`;

export const providers = () => json("GET", "/providers");
export const peers = () => json("GET", "/peers");
export const approvePeer = (name) => json("POST", `/peers/${part(name)}/approve`);
export const blockPeer = (name) => json("POST", `/peers/${part(name)}/block`);
export const removePeer = (name) => json("DELETE", `/peers/${part(name)}`);
export const echoPeer = (name) => json("POST", `/peers/${part(name)}/echo`);
export const echoPeers = () => json("POST", "/peers/echo");

/** One frame as a bitmap with the window the box applied. */
export async function frame(uid, number, { window, size, signal }) {
  const query = new URLSearchParams({ size });
  if (window) {
    query.set("wc", window.center);
    query.set("ww", window.width);
  }
  const answer = await ask("GET", `/instances/${part(uid)}/frames/${number}/rendered?${query}`, { signal });
  const bitmap = await createImageBitmap(await answer.blob());
  const center = answer.headers.get("Scrigno-Window-Center");
  const width = answer.headers.get("Scrigno-Window-Width");
  return { bitmap, window: center === null ? null : { center: Number(center), width: Number(width) } };
}

export const renderedFrame = (uid, number, size) => `api/instances/${part(uid)}/frames/${number}/rendered?size=${size}`;
export const seriesMetadata = (study, series, signal) =>
  json("GET", `/studies/${part(study)}/series/${part(series)}/metadata`, { signal });

/** The document of an object; films are left to the element that plays them. */
export async function instanceDocument(uid, signal) {
  const path = `/instances/${part(uid)}/document`;
  const controller = new AbortController();
  signal.addEventListener("abort", () => controller.abort(), { once: true });
  const answer = await ask("GET", path, { signal: controller.signal });
  const type = (answer.headers.get("Content-Type") ?? "").split(";")[0].trim();
  const url = `api${path}`;
  if (/^(video|audio)\//.test(type)) {
    controller.abort();
    return { blob: null, type, url };
  }
  return { blob: await answer.blob(), type, url };
}

export const annotations = (uid, signal) => json("GET", `/studies/${part(uid)}/annotations`, { signal });
export const saveAnnotations = (uid, body, revision) =>
  json("PUT", `/studies/${part(uid)}/annotations/mine`, { body, revision });
export const keyImages = (uid, signal) => json("GET", `/studies/${part(uid)}/key-images`, { signal });
export const saveKeyImages = (uid, body, revision) =>
  json("PUT", `/studies/${part(uid)}/key-images/mine`, { body, revision });

export const note = (uid, signal) => json("GET", `/studies/${part(uid)}/note`, { signal });
export const saveNote = (uid, body, revision) => json("PUT", `/studies/${part(uid)}/note`, { body, revision });
export const labels = (uid, signal) => json("GET", `/studies/${part(uid)}/labels`, { signal });
export const saveLabels = (uid, body, revision) =>
  json("PUT", `/studies/${part(uid)}/labels`, { body, revision });
