// SPDX-License-Identifier: Apache-2.0
// One catalogue of texts per language (`locales/`), shared with the daemon: `{name}` placeholders
// and plural objects only.

export const LANGUAGES = {
  en: "English",
  it: "Italiano",
  fr: "Français",
  ja: "日本語",
  ko: "한국어",
  vi: "Tiếng Việt",
};

const STORED = "scrigno-language";
let language = "en";
let texts = {};
let english = {};

async function load(name) {
  const answer = await fetch(`locales/${name}.json`);
  if (!answer.ok) throw new Error(`language ${name}: ${answer.status}`);
  return answer.json();
}

/** Switch every text that is made from now on; the caller draws the page again. */
export async function useLanguage(name) {
  const wanted = name in LANGUAGES ? name : "en";
  if (!Object.keys(english).length) english = await load("en");
  texts = wanted === "en" ? english : await load(wanted);
  language = wanted;
  document.documentElement.lang = wanted;
}

export function currentLanguage() {
  return language;
}

/** The language picked on this device before log-in, else the browser's if we have it. */
export function deviceLanguage(fallback) {
  try {
    const picked = localStorage.getItem(STORED);
    if (picked in LANGUAGES) return picked;
  } catch {
    // storage may be forbidden; then the choice lasts until the page is loaded again
  }
  const known = navigator.languages.map((each) => each.slice(0, 2)).find((each) => each in LANGUAGES);
  return known ?? fallback;
}

export function rememberOnDevice(name) {
  try {
    localStorage.setItem(STORED, name);
  } catch {
    // as above
  }
}

/** The text of a key; `n` picks the plural form and is shown in the user's digits. */
export function t(key, values = {}) {
  let text = texts[key] ?? english[key] ?? key;
  if (typeof text === "object") {
    text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  }
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? number(value) : value;
  });
}

/** Tell whether the catalogue has this key (texts that depend on a code from the box). */
export function has(key) {
  return key in english;
}

export function number(value, options = {}) {
  return new Intl.NumberFormat(language, options).format(value);
}

/** A DICOM date (YYYYMMDD) as people write it here; anything else as it is. */
export function dicomDate(text) {
  const match = /^(\d{4})\.?(\d{2})\.?(\d{2})$/.exec(text);
  if (!match) return text;
  const moment = new Date(Date.UTC(match[1], match[2] - 1, match[3]));
  if (moment.getUTCMonth() !== match[2] - 1) return text;
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: "UTC" }).format(moment);
}

/** A DICOM time (HHMMSS.FFFFFF) to the minute. */
export function dicomTime(text) {
  const match = /^(\d{2}):?(\d{2})/.exec(text);
  if (!match || match[1] > 23 || match[2] > 59) return text;
  const moment = new Date(Date.UTC(2000, 0, 1, match[1], match[2]));
  return new Intl.DateTimeFormat(language, { timeStyle: "short", timeZone: "UTC" }).format(moment);
}

export function moment(iso) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

/** Bytes in the decimal units that disks are sold in. */
export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];
  let step = 0;
  let value = count;
  while (value >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = value < 10 && step > 0 ? 1 : 0;
  return number(value, { style: "unit", unit: units[step], unitDisplay: "short", maximumFractionDigits: digits });
}

/** A length of time in the largest unit that tells it well. */
export function duration(seconds) {
  const [unit, size] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : seconds < 172800 ? ["hour", 3600] : ["day", 86400];
  return number(Math.max(1, Math.round(seconds / size)), { style: "unit", unit, unitDisplay: "long" });
}

/** Today (or some days before) in the browser's time zone as YYYYMMDD. */
export function day(before = 0) {
  const then = new Date();
  then.setDate(then.getDate() - before);
  const two = (value) => String(value).padStart(2, "0");
  return `${then.getFullYear()}${two(then.getMonth() + 1)}${two(then.getDate())}`;
}

const IDEOGRAPHIC_FIRST = new Set(["ja", "ko"]);

function group(text) {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] = text.split("^").map((part) => part.trim());
  const rest = [prefix, given, middle, suffix].filter(Boolean).join(" ");
  if (!rest) return family;
  const cjk = /\p{Script=Han}|\p{Script=Hangul}|\p{Script=Hiragana}|\p{Script=Katakana}/u.test(family);
  return cjk || !family ? [family, rest].filter(Boolean).join(" ") : `${family}, ${rest}`;
}

/** A person name (PS3.5 6.2.1) as [name, other spelling]; the group of the reader comes first. */
export function personName(name) {
  const alphabetic = group(name.alphabetic);
  const ideographic = group(name.ideographic);
  const phonetic = group(name.phonetic);
  const order = IDEOGRAPHIC_FIRST.has(language)
    ? [ideographic, phonetic, alphabetic]
    : [alphabetic, ideographic, phonetic];
  const found = [...new Set(order.filter(Boolean))];
  return [found[0] ?? "", found[1] ?? ""];
}
