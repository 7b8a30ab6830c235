// SPDX-License-Identifier: Apache-2.0
// What an address brings to log in with. It leaves the address and its place in the history as this
// file is read, before anything is drawn or asked: so this is the first import of all.

const SECRETS = new Set(["id", "password", "code", "token"]);
const SHARED = /^#\/shared\/([\w-]{16,256})$/i;

function cut(text, sign) {
  const at = text.indexOf(sign);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(text) {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text; // bytes that are no UTF-8
  }
}

/** Take `id`, `password`, `code`, `token` and the secret of a link out of the address. */
function takeFromAddress() {
  const [route, query] = cut(location.hash, "?");
  const secrets = {};
  const kept = query.split("&").filter((pair) => {
    const [key, value] = cut(pair, "=");
    const name = decoded(key).trim().toLowerCase();
    if (!SECRETS.has(name)) return true;
    secrets[name] ??= value;
    return false;
  });
  const shared = SHARED.exec(route)?.[1];
  if (shared) secrets.shared = shared;
  if (!Object.keys(secrets).length) return null;
  const rest = kept.filter(Boolean).join("&");
  const clean = (shared ? "#/shared" : route) + (rest ? `?${rest}` : "");
  history.replaceState(history.state, "", location.pathname + location.search + clean);
  return secrets;
}

let brought = takeFromAddress();
addEventListener("hashchange", () => { brought = takeFromAddress() ?? brought; });

/** What the address brought, once. */
export function takeBrought() {
  const mine = brought;
  brought = null;
  return mine;
}

/** Log in with it: resolves to the answer of the box, null when there was nothing; else rejects. */
export async function logInWith(secrets, api) {
  if (secrets.token) return api.launchByToken(decoded(secrets.token));
  if (secrets.code) return api.launchByCode(secrets.code);
  if (secrets.id !== undefined && secrets.password !== undefined) {
    return api.launchByPassword(decoded(secrets.id), decoded(secrets.password));
  }
  return null;
}
