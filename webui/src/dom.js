// SPDX-License-Identifier: Apache-2.0
// Elements from code: texts are always text nodes, so nothing a device sent can become markup.

/** Make an element: attributes by name, listeners as `onclick`, properties as `.value`. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Path data on a 24 × 24 grid, drawn as lines. */
const ICONS = {
  angle: ["M5 19h15", "M5 19 16 6", "M12 19a7 7 0 0 0-2.500-5.300"],
  cobb: ["M4 7l14-3", "M4 20l15-5", "M9 6v4", "M10 18v-4"],
  contrast: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 3v18", "M12 7h7", "M12 11h8.800", "M12 15h8"],
  cross: ["M5 5l14 14", "M8 17l9-10"],
  ellipse: ["M12 6c5 0 9 2.700 9 6s-4 6-9 6-9-2.700-9-6 4-6 9-6z"],
  freehand: ["M4 15c2-7 5-9 7-7s-3 6 0 8 4-6 7-5 1 6-2 8"],
  invert: ["M4 4h16v16H4z", "M4 20 20 4", "M13 20l7-7", "M8.500 20 20 8.500"],
  keyboard: ["M3 7h18v10H3z", "M7 10.500h.1", "M11 10.500h.1", "M15 10.500h.1", "M8 14h8"],
  light: ["M20 4C10 4 5 9 5 16v4", "M5 16c6 1 13-2 15-12", "M5 20 12 12"],
  lines: ["M4 5h16v14H4z", "M4 9l16 3", "M4 14l16 1"],
  link: ["M10 14a4 4 0 0 1 0-5.500l3-3a4 4 0 0 1 5.600 5.600l-1.500 1.500", "M14 10a4 4 0 0 1 0 5.500l-3 3a4 4 0 0 1-5.600-5.600l1.500-1.500"],
  mirror: ["M12 4v16", "M9 7v10H3z", "M15 7v10h6z"],
  move: ["M12 3v18", "M3 12h18", "M9 6l3-3 3 3", "M9 18l3 3 3-3", "M6 9l-3 3 3 3", "M18 9l3 3-3 3"],
  check: ["M5 12.500 10 17.500 19.500 7"],
  columns: ["M4 5h16v14H4z", "M9.500 5v14", "M15 5v14"],
  lock: ["M6 11h12v9H6z", "M8.500 11V8a3.500 3.500 0 0 1 7 0v3"],
  trash: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13"],
  undo: ["M5 9h9a5 5 0 0 1 0 10h-4", "M9 5 5 9l4 4"],
  planes: ["M4 4h16v16H4z", "M12 4v16", "M4 12h16"],
  play: ["M7 5v14l12-7z"],
  probe: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v4", "M12 18v4", "M2 12h4", "M18 12h4"],
  rectangle: ["M4 6h16v12H4z"],
  rotate: ["M20 5v6h-6", "M19.400 11a8 8 0 1 0 .2 3.500"],
  ruler: ["M3 16 16 3l5 5L8 21z", "M7 12l2 2", "M10 9l2 2", "M13 6l2 2"],
  stack: ["M7 4h13v13", "M4 7h13v13H4z"],
  star: ["M12 3.500l2.600 5.500 6 .8-4.400 4.200 1.100 6L12 17l-5.300 3 1.100-6L3.400 9.800l6-.8z"],
  tags: ["M4 5h16", "M4 10h16", "M4 15h10", "M4 20h7"],
  text: ["M5 6V4h14v2", "M12 4v16", "M9 20h6"],
  zoom: ["M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13z", "M15.300 15.300 21 21", "M10.500 7.500v6", "M7.500 10.500h6"],
  alert: ["M12 3.5 22 20.5H2z", "M12 10v4.5", "M12 17.4v.1"],
  approve: ["M4.5 12.5 10 18 20 6.5"],
  arrow: ["M12 5v14", "M6 13l6 6 6-6"],
  back: ["M15 5l-7 7 7 7"],
  block: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M5.8 5.8l12.4 12.4"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  connection: ["M5 7a2 2 0 1 0 0-.1z", "M19 7a2 2 0 1 0 0-.1z", "M12 19a2 2 0 1 0 0-.1z", "M7 7h10", "M6.2 8.7l4.6 8", "M17.8 8.7l-4.6 8"],
  copy: ["M9 9h10v11H9z", "M5 15V4h10"],
  dashboard: ["M4 13a8 8 0 1 1 16 0", "M12 13l4-4", "M4 13v2h3", "M20 13v2h-3"],
  disk: ["M4 6h16v5H4z", "M4 13h16v5H4z", "M7 8.5h.1", "M7 15.5h.1"],
  echo: ["M4 12h4l2.5-6 4 12 2.5-6h3"],
  eye: ["M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12z", "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z"],
  forward: ["M9 5l7 7-7 7"],
  globe: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M3 12h18", "M12 3c3 3 3 15 0 18", "M12 3c-3 3-3 15 0 18"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5", "M12 8v.1"],
  list: ["M4 5h4v4H4z", "M4 15h4v4H4z", "M11 7h9", "M11 17h9"],
  logout: ["M14 4h5v16h-5", "M4 12h11", "M11 8l4 4-4 4"],
  picture: ["M4 5h16v14H4z", "M4 16l5-5 4 4 3-3 4 4", "M8.5 9h.1"],
  reset: ["M4 4v6h6", "M4.6 10a8 8 0 1 1-.2 4.5"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "M16.2 16.2 21 21"],
  user: ["M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M4.5 20.5c.8-4 3.8-6 7.5-6s6.700 2 7.500 6"],
};

/** The lines of an icon. */
export const paths = (name) => ICONS[name];

/** Make an icon; it is decoration, the words stand beside it or in the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const data of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", data);
    svg.append(path);
  }
  return svg;
}

/** Put text where screen readers say it without moving the focus. */
export function speak(text) {
  document.getElementById("spoken").textContent = text;
}
