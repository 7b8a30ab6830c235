// SPDX-License-Identifier: Apache-2.0
import * as api from "../api.js";
import { h, icon, speak } from "../dom.js";
import { moment, t } from "../i18n.js";
import { setPending } from "../shell.js";

export function connectionPage(page) {
  const place = h("div", { class: "section" }, h("span", { class: "spinner", role: "status", "aria-label": t("loading") }));
  page.append(h("div", { class: "page-head" }, h("h1", {}, t("connection.title"))), place);
  let gone = false;
  const answers = new Map();

  const refresh = async () => {
    try {
      const [{ providers }, { peers }] = await Promise.all([api.providers(), api.peers()]);
      if (gone) return;
      setPending(peers.filter((peer) => peer.state === "pending").length);
      draw(providers, peers);
    } catch (error) {
      if (gone || !error.sentence) return;
      place.replaceChildren(h("div", { class: "notice danger" }, icon("alert"), h("p", {}, error.sentence())), h("div", {}, h("button", { class: "button", type: "button", onclick: refresh }, t("again"))));
    }
  };

  const act = (work) => async (event) => {
    event.currentTarget.disabled = true;
    try {
      await work();
    } catch (error) {
      if (!error.sentence) throw error;
      speak(error.sentence());
    }
    await refresh();
  };

  const echo = (name) => act(async () => answers.set(name, await api.echoPeer(name)));
  const echoAll = act(async () => (await api.echoPeers()).answers.forEach((answer) => answers.set(answer.name, answer)));

  const draw = (providers, peers) => {
    const waiting = peers.filter((peer) => peer.state === "pending");
    const others = peers.filter((peer) => peer.state !== "pending");
    place.replaceChildren(
      waiting.length ? group("connection.pending", waiting.map((peer) => row(peer, answers.get(peer.name), { act, echo }))) : "",
      h("section", { class: "section" }, h("h2", {}, t("connection.providers")), h("ul", { class: "card rows" }, providers.map(provider))),
      h("section", { class: "section" },
        h("div", { class: "section-head" }, h("h2", {}, t("connection.users")), others.length ? h("button", { class: "button", type: "button", onclick: echoAll }, icon("echo"), t("connection.echo.all")) : null),
        others.length ? h("ul", { class: "card rows" }, others.map((peer) => row(peer, answers.get(peer.name), { act, echo }))) : h("p", { class: "muted" }, t("connection.users.none")),
      ),
    );
  };
  refresh();
  return () => { gone = true; };
}

function group(title, rows) {
  return h("section", { class: "section" }, h("h2", {}, t(title)), h("ul", { class: "card rows" }, rows));
}

function provider(each) {
  const on = each.listening_port !== null;
  return h("li", {},
    icon("connection"),
    h("div", { class: "grow" }, h("b", {}, each.name), h("span", { class: "second" }, h("span", { class: "mono" }, each.ae_title), " · ", t("connection.port"), " ", h("span", { class: "mono" }, String(each.listening_port ?? each.port)))),
    h("span", { class: "muted" }, t(`unregistered.${each.unregistered}`)),
    h("span", { class: `tag ${on ? "good" : "danger"}` }, on ? t("connection.listening") : each.error || t("connection.silent")),
  );
}

function row(peer, answer, { act, echo }) {
  const state = { approved: "good", pending: "warning", blocked: "danger" }[peer.state];
  const last = peer.last_seen ?? peer.first_seen;
  return h("li", {},
    h("div", { class: "grow" }, h("b", {}, peer.name), h("span", { class: "second" }, h("span", { class: "mono" }, `${peer.ae_title}  ${peer.host}:${peer.port}`), last ? ` · ${t("connection.seen", { time: moment(last) })}` : "")),
    answer ? h("span", { class: `tag ${answer.ok ? "good" : "danger"}`, role: "status" }, answer.ok ? t("connection.echo.ok", { ms: Math.round(answer.seconds * 1000) }) : t("connection.echo.failed")) : null,
    h("span", { class: `tag ${state}` }, t(`peer.${peer.state}`)),
    h("div", { class: "actions" },
      peer.state !== "approved" ? h("button", { class: "button primary", type: "button", onclick: act(() => api.approvePeer(peer.name)) }, icon("approve"), t("connection.approve")) : null,
      peer.state !== "blocked" ? h("button", { class: "button", type: "button", onclick: act(() => api.blockPeer(peer.name)) }, icon("block"), t("connection.block")) : null,
      h("button", { class: "button", type: "button", onclick: echo(peer.name) }, icon("echo"), t("connection.echo")),
    ),
    answer && !answer.ok && answer.detail ? h("p", { class: "hint grow" }, answer.detail) : null,
  );
}
