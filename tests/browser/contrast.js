// SPDX-License-Identifier: Apache-2.0
// Every visible text against the ground it stands on: WCAG 2.2 success criterion 1.4.3.
const channel = (v) => {
  const part = v / 255;
  return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
};
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return parts.length > 3 ? parts : [...parts, 1];
};
const over = (ink, under) => under.map((value, i) => ink[i] * ink[3] + value * (1 - ink[3]));

/** The colour behind an element, or null where a picture stands behind it. */
function ground(element) {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const style = getComputedStyle(each);
    if (style.backgroundImage !== "none") return null;
    layers.push(parse(style.backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
}

const SKIPPED = ".visually-hidden, .skip, option, script, noscript, :disabled";
const bad = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.getBoundingClientRect().width || element.closest(SKIPPED)) continue;
  const style = getComputedStyle(element);
  const under = ground(element);
  if (!under || style.visibility === "hidden") continue;
  const shades = [luminance(over(parse(style.color), under)), luminance(under)];
  const ratio = (Math.max(...shades) + 0.05) / (Math.min(...shades) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) bad.add(`${text.slice(0, 30)} ${ratio.toFixed(2)} ${style.color}`);
}
return [...bad];
