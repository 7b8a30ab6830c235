// SPDX-License-Identifier: Apache-2.0
// What a pane shows of an object without pixels: a report, a PDF, an ECG, a sound, a video.

import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";

/** Fetch the document of an object and draw it into `place`; returns what gives it back. */
export async function showDocument(
  place: HTMLElement,
  uid: string,
  signal: AbortSignal,
): Promise<() => void> {
  const { blob, type, url } = await api.instanceDocument(uid, signal);
  if (signal.aborted) return () => {};
  const made: string[] = [];
  const local = () => {
    const address = URL.createObjectURL(blob as Blob);
    made.push(address);
    return address;
  };
  place.replaceChildren(await element(type, url, blob, local));
  return () => {
    place.replaceChildren();
    for (const address of made) URL.revokeObjectURL(address);
  };
}

async function element(
  type: string,
  url: string,
  blob: Blob | null,
  local: () => string,
): Promise<HTMLElement> {
  const title = t("viewer.document");
  if (type.startsWith("video/")) return h("video", { class: "document", src: url, controls: true });
  if (type.startsWith("audio/")) return h("audio", { class: "document", src: url, controls: true });
  if (type === "image/svg+xml")
    return h("img", { class: "document sheet", src: local(), alt: title });
  if (type === "text/html") {
    // no script, no form, no origin: what a device wrote stays a page to look at
    const text = await (blob as Blob).text();
    return h("iframe", { class: "document sheet", title, sandbox: "", srcdoc: text });
  }
  if (type === "application/pdf") return h("iframe", { class: "document", title, src: local() });
  return h("a", { class: "button", href: url, download: "" }, t("viewer.document.download"));
}
