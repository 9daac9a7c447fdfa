/* Values, times and lengths as people read them. Pure functions. */
import { Exact } from "./api.js";

const SI = [
  [1e18, "E"],
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/* "-1234567.5" to "-1,234,567.5" */
export function groupDigits(text) {
  const [, sign, whole, rest] = /^(-?)(\d+)(.*)$/.exec(text) ?? [null, "", text, ""];
  return sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + rest;
}

function isNumber(value) {
  return typeof value === "number" || value instanceof Exact;
}

const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/* A text of which something would not be seen, in quotation marks and with escapes, so that no two texts
 * look alike; null: it shows itself. */
export function quoted(text) {
  if (text !== "" && text === text.trim() && text.search(UNSEEN) < 0) return null;
  const escape = (c) =>
    ESCAPES[c] ?? `\\u${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return `"${text.replace(UNSEEN, escape)}"`;
}

/* A key's value in a line of text. */
export function keyText(value) {
  return value === null ? "NULL" : (quoted(String(value)) ?? String(value));
}

/* Every digit. */
export function exact(value) {
  if (value === null || value === undefined) return "NULL";
  if (Array.isArray(value)) return `[${value.map(exact).join(", ")}]`;
  return isNumber(value) ? groupDigits(String(value)) : String(value);
}

/* "12.345" to "12.35": half away from zero, in digits, because a double has not enough of them. */
function rounded(text, digits) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (fraction.length <= digits) return text;
  const kept = BigInt(whole + fraction.slice(0, digits)) + (fraction[digits] >= "5" ? 1n : 0n);
  const shown = kept.toString().padStart(digits + 1, "0");
  return `${sign}${shown.slice(0, -digits)}.${shown.slice(-digits)}`;
}

/* Whole numbers with every digit, fractions with as many as help. */
export function short(value) {
  const text = String(value);
  if (!isNumber(value) || !/^-?\d+\.\d+$/.test(text)) return exact(value);
  const size = Math.abs(Number(value));
  return groupDigits(rounded(text, size >= 1000 ? 1 : size >= 1 ? 2 : 4));
}

/* 12.3k */
export function compact(number) {
  const size = Math.abs(number);
  for (const [unit, name] of SI)
    if (size >= unit) return `${Number((number / unit).toPrecision(3))}${name}`;
  return String(Number(number.toPrecision(4)));
}

export function percent(part, whole) {
  if (!(whole > 0)) return "0 %";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  if (share > 99.9 && share < 100) return "> 99.9 %";
  return `${Number(share.toFixed(1))} %`;
}

/* "2.4 s", "12 min", "3 h" */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < SECOND) return `${Math.round(ms)} ms`;
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < 2 * MINUTE) return `${Math.round(ms / SECOND)} s`;
  if (ms < 2 * HOUR) return `${Math.round(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.round(ms / HOUR)} h`;
  return `${groupDigits(String(Math.round(ms / DAY)))} days`;
}

const two = (n) => String(n).padStart(2, "0");

export function day(ms) {
  const d = new Date(ms);
  return `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
}

function clock(ms) {
  const d = new Date(ms);
  const seconds = d.getUTCSeconds() || d.getUTCMilliseconds() ? `:${two(d.getUTCSeconds())}` : "";
  const fraction = d.getUTCMilliseconds()
    ? `.${String(d.getUTCMilliseconds()).padStart(3, "0")}`
    : "";
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}${seconds}${fraction}`;
}

/* Milliseconds since 1970, or an RFC 3339 text, as "2001-03-31 22:27" (UTC). */
export function time(value) {
  if (value === null || value === undefined) return "–";
  const ms = typeof value === "number" ? value : Date.parse(value);
  return `${day(ms)} ${clock(ms)}`;
}

/* Without what the end repeats: "2001-03-31 22:00 – 23:00", "2001-03-31". */
export function span(start, end) {
  if (start === null && end === null) return "all time";
  if (start === null) return `until ${time(end)}`;
  if (end === null) return `since ${time(start)}`;
  if (start % DAY === 0 && end - start === DAY) return day(start);
  if (start % DAY === 0 && end % DAY === 0) return `${day(start)} to ${day(end - DAY)}`;
  return `${time(start)} – ${day(start) === day(end) ? clock(end) : time(end)}`;
}

/* Labels of an axis of time (UTC) whose marks lie `step` apart; splits in seconds. */
export function axisTimes(splits, stepSeconds) {
  let last = null;
  return splits.map((seconds) => {
    const d = new Date(seconds * 1000);
    const date = `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}`;
    const year = d.getUTCFullYear();
    const newYear = last === null || last.getUTCFullYear() !== year;
    const newDay = last === null || day(last.getTime()) !== day(d.getTime());
    last = d;
    if (stepSeconds >= 365 * 86400) return String(year);
    if (stepSeconds >= 28 * 86400)
      return newYear ? `${MONTHS[d.getUTCMonth()]}\n${year}` : MONTHS[d.getUTCMonth()];
    if (stepSeconds >= 86400) return newYear ? `${date}\n${year}` : date;
    return newDay
      ? `${clock(d.getTime())}\n${date}${newYear ? ` ${year}` : ""}`
      : clock(d.getTime());
  });
}

/* A view's window in words. */
export function windowText(window) {
  switch (window.type) {
    case "tumbling":
      return `windows of ${window.size}${window.timezone ? `, ${window.timezone}` : ""}`;
    case "hopping":
      return `windows of ${window.size} every ${window.slide}`;
    case "session":
      return `sessions, gap ${window.gap}`;
    default:
      return "over all time";
  }
}
