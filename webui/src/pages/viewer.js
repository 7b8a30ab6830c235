// SPDX-License-Identifier: Apache-2.0
// One study: its series beside the panes, and the tools. Weak browsers get pictures of the box.

import { renderedViewerPage } from "./rendered-viewer.js";

const WEAK_GIB = 2;

/** Tell whether this browser can hold full pixels; `?mode=rendered` or `full` decides otherwise. */
function isStrong(parameters) {
  const mode = parameters.get("mode");
  if (mode) return mode !== "rendered";
  if ((navigator.deviceMemory ?? 8) <= WEAK_GIB) return false;
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}

export function viewerPage(parameters) {
  if (!isStrong(parameters)) return renderedViewerPage(parameters);
  const place = document.createElement("div");
  place.style.display = "contents";
  let stop = () => {};
  let gone = false;
  import("../viewer/reading-room").then(({ readingRoom }) => {
    if (gone) return;
    const room = readingRoom(parameters);
    place.append(room.root);
    stop = room.stop;
  });
  return { root: place, stop: () => { gone = true; stop(); } };
}
