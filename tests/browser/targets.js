// SPDX-License-Identifier: Apache-2.0
// Controls that a finger misses: under 44 px in a direction. The link of a row covers its row.
const SKIPPED = ".skip, .visually-hidden, .col-patient";
const small = [];
for (const each of document.querySelectorAll("a[href], button, input:not([tabindex='-1']), select")) {
  const { width, height } = each.getBoundingClientRect();
  if (!width || each.closest(SKIPPED) || (width >= 43.5 && height >= 43.5)) continue;
  small.push(`${each.outerHTML.slice(0, 90)} ${width} x ${height}`);
}
return small;
