/* What a view's page shows, as the page's address says it, and the requests that follow from it.
 *
 * The address (#/views/NAME?measure=...) is the only place where choices are kept, so that a reload,
 * a bookmark and the back button all lead to the same picture. Pure functions. */
import { MINUTE, HOUR, DAY, duration } from "./format.js";

const UNITS = {
  ms: 1,
  s: 1000,
  m: MINUTE,
  h: HOUR,
  d: DAY,
  w: 7 * DAY,
  mo: 30 * DAY,
  y: 365 * DAY,
};
const STEPS = [
  "1s",
  "5s",
  "10s",
  "30s",
  "1m",
  "5m",
  "10m",
  "15m",
  "30m",
  "1h",
  "3h",
  "6h",
  "12h",
  "1d",
  "1w",
];
const CALENDAR_STEPS = ["1d", "1w", "1mo", "3mo", "1y"];
const RANGES = [
  5 * MINUTE,
  15 * MINUTE,
  HOUR,
  6 * HOUR,
  DAY,
  7 * DAY,
  30 * DAY,
  90 * DAY,
  365 * DAY,
  3650 * DAY,
];
const RESERVED = [
  "from",
  "to",
  "group_by",
  "granularity",
  "timezone",
  "measures",
  "having",
  "order",
  "limit",
  "cursor",
  "layer",
  "explain",
  "at_least",
  "wait_ms",
  "key",
  "is",
];
const WINDOWS_SHOWN_FIRST = 60;
const WINDOWS_COMFORTABLE = 400;
export const WINDOWS_MAX = 2000;
export const SERIES_MAX = 5;

/* Milliseconds of "15m"; months and years by their usual length, for estimates. */
export function lengthMs(text) {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d|w|mo|y)$/.exec(text ?? "") ?? [null, "0", "s"];
  return Number(count) * UNITS[unit];
}

/* --- what a view allows --- */

/* What rows can be grouped and filtered by: keys, and columns that are looked up by them. */
export function groupables(view) {
  return [...view.keys, ...(view.lookups ?? [])];
}

/* "fixed", "calendar", "hopping", "session" or "none": how its windows lie. */
export function windowKind(view) {
  const { type, size, timezone } = view.window;
  if (type !== "tumbling") return type;
  return timezone || /(mo|y)$/.test(size) ? "calendar" : "fixed";
}

/* Whether windows can be rolled up into one. */
export function rollsUp(view) {
  return ["fixed", "calendar"].includes(windowKind(view));
}

/* The rate at which windows begin, roughly. */
export function windowMs(view) {
  return lengthMs(view.window.slide ?? view.window.size ?? view.window.gap);
}

/* Values of `granularity`; "" is the view's own windows. */
export function granularities(view) {
  const own = windowMs(view);
  const kind = windowKind(view);
  if (kind === "fixed") {
    const multiples = STEPS.filter((step) => lengthMs(step) > own && lengthMs(step) % own === 0);
    return ["", ...multiples, ...(DAY % own === 0 ? ["1mo", "1y"] : [])];
  }
  if (kind !== "calendar") return [""];
  const [, count, unit] = /^(\d+)(d|w|mo|y)$/.exec(view.window.size) ?? [null, "1", "y"];
  if (unit === "d" && count === "1") return ["", ...CALENDAR_STEPS.slice(1)];
  if (unit === "mo")
    return [
      "",
      ...(["1"].includes(count) ? ["3mo"] : []),
      ...(12 % Number(count) === 0 ? ["1y"] : []),
    ];
  return [""];
}

/* Where the measure of two disjoint sets of records is the sum of theirs, shares can be shown. */
export function isAdditive(measure) {
  if (measure.type !== "integer" && measure.type !== "decimal") return false;
  return /^\s*(sum|count|regr_count)\s*\(\s*(?!distinct\b)/i.test(measure.expression);
}

export function isCount(measure) {
  return /^\s*(count|regr_count)\s*\(/i.test(measure.expression);
}

export function chartable(view) {
  return view.measures.filter(
    (measure) => measure.type === "integer" || measure.type === "decimal",
  );
}

/* --- the address --- */

export function parseState(text) {
  const state = {
    measure: null,
    chart: null,
    granularity: null,
    range: null,
    from: null,
    to: null,
    group: null,
    table: null,
    sort: null,
    digits: null,
    filters: [],
  };
  for (const [name, value] of new URLSearchParams(text)) {
    if (name.startsWith("is.")) state.filters.push({ key: name.slice(3), value });
    else if (name.startsWith("null.")) state.filters.push({ key: name.slice(5), value: null });
    else if (name in state && name !== "filters") state[name] = value;
  }
  return state;
}

export function formatState(state) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(state))
    if (name !== "filters" && value !== null) out.append(name, value);
  for (const { key, value } of state.filters)
    if (value === null) out.append(`null.${key}`, "1");
    else out.append(`is.${key}`, value);
  const text = out.toString();
  return text === "" ? "" : `?${text}`;
}

function pick(wanted, allowed, otherwise) {
  return allowed.includes(wanted) ? wanted : otherwise;
}

/* "7d", "all" or "custom". Without a choice, long enough for about sixty windows. */
function chosenRange(state, view) {
  if (windowKind(view) === "none") return "all";
  if (state.from !== null || state.to !== null) return "custom";
  const names = ranges(view).map(([name]) => name);
  const own = RANGES.find((ms) => ms >= WINDOWS_SHOWN_FIRST * windowMs(view)) ?? RANGES.at(-1);
  return pick(state.range, names, String(own));
}

export function ranges(view) {
  const own = windowMs(view);
  const fit = RANGES.filter((ms) => ms >= 4 * own);
  return [
    ...fit.map((ms) => [String(ms), `last ${duration(ms).replace(/^1 /, "")}`]),
    ["all", "everything"],
  ];
}

function chosenGranularity(state, view, range) {
  const allowed = granularities(view);
  if (allowed.includes(state.granularity)) return state.granularity;
  const length = range === "custom" ? Date.parse(state.to) - Date.parse(state.from) : Number(range);
  if (!Number.isFinite(length)) return "";
  const fits = (step) =>
    length / (step === "" ? windowMs(view) : lengthMs(step)) <= WINDOWS_COMFORTABLE;
  return allowed.find(fits) ?? allowed.at(-1);
}

/* The choices with everything that was left open filled in, and nothing that the view does not have. */
export function resolve(state, view) {
  const measures = chartable(view);
  const keys = groupables(view).map(({ name }) => name);
  const measure = measures.find(({ name }) => name === state.measure) ?? measures[0] ?? null;
  const range = chosenRange(state, view);
  const wanted =
    state.group === null
      ? keys.slice(0, 1)
      : state.group.split(",").filter((name) => keys.includes(name));
  const group = wanted.length > 0 ? wanted : keys.slice(0, 1);
  const filters = state.filters.filter(({ key }) => keys.includes(key));
  const table =
    group.length > 0 && (rollsUp(view) || windowKind(view) === "none")
      ? pick(state.table, ["groups", "windows"], "groups")
      : "windows";
  const columns = [...groupables(view), ...view.measures]
    .map(({ name }) => name)
    .concat("window_start");
  const sorted = state.sort !== null && columns.includes(state.sort.replace(/^-/, ""));
  /* By size rather than by an average, in which the groups of one record come first. */
  const weight =
    measure === null || isAdditive(measure) ? measure : (view.measures.find(isCount) ?? measure);
  const otherwise =
    table === "windows" && windowKind(view) !== "none"
      ? "-window_start"
      : weight && `-${weight.name}`;
  return {
    measure,
    range,
    group,
    filters,
    table,
    chart: group.length > 0 ? pick(state.chart, ["total", "groups"], "total") : "total",
    granularity: chosenGranularity(state, view, range),
    from: state.from,
    to: state.to,
    sort: sorted ? state.sort : otherwise,
    digits: state.digits === "all",
  };
}

/* --- requests --- */

function floorTo(ms, step) {
  const d = new Date(ms);
  if (step.endsWith("y")) return Date.UTC(d.getUTCFullYear(), 0);
  if (step.endsWith("mo")) return Date.UTC(d.getUTCFullYear(), d.getUTCMonth());
  const length = lengthMs(step) || 1;
  return Math.floor(ms / length) * length;
}

/* [from, to] as the API takes them; null is open. A range that follows the data begins on a whole window, so
 * that the first one is not cut. It ends where a time of an event can only come from a broken clock, which the
 * watermark leaves out, too: a day ahead of now, in whole days, so that the question stays the same. */
export function bounds(chosen, view, watermarkMs) {
  if (windowKind(view) === "none" || chosen.range === "all") return [null, null];
  if (chosen.range === "custom") return [chosen.from, chosen.to];
  if (watermarkMs === null) return [null, null];
  const step = chosen.granularity || view.window.slide || view.window.size || view.window.gap;
  const ahead = Math.max(watermarkMs, Date.now()) + 2 * DAY;
  return [floorTo(watermarkMs - Number(chosen.range), step), floorTo(ahead, "1d")].map((ms) =>
    new Date(ms).toISOString().replace(".000Z", "Z"),
  );
}

function filterParameter({ key, value }) {
  const name = RESERVED.includes(key) ? `key.${key}` : key;
  return value === null ? [`${name}.is`, "null"] : [name, value];
}

/* usage: rowsAddress(view, { from, to, filters, group_by, granularity, measures, order, limit, layer }) */
export function rowsAddress(view, parameters) {
  return address(view, "rows", parameters);
}

/* No rows of it, where its windows have a time: only where the answer stands. */
export function receiptAddress(view) {
  return rowsAddress(
    view,
    windowKind(view) === "none" ? { limit: 1 } : { from: "9999-01-01T00:00:00Z", limit: 1 },
  );
}

/* The same of changes. */
export function liveAddress(view, parameters) {
  return address(view, "live", parameters);
}

function address(view, what, { filters = [], ...parameters }) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    if (value !== null && value !== undefined && !(value === "" && name === "granularity"))
      out.append(name, Array.isArray(value) ? value.join(",") : String(value));
  for (const filter of filters) out.append(...filterParameter(filter));
  return `/v1/views/${encodeURIComponent(view.view)}/${what}?${out}`;
}

const quote = (text) =>
  /^[A-Za-z0-9_.,:@%+=/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/* The same for a terminal; null where the command has no way to say it. */
export function rowsCommand(view, { filters = [], ...parameters }) {
  const words = ["dovetail", "query", view.view];
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || value === "" || name === "measures") continue;
    words.push(
      `--${name.replace("_", "-")}`,
      quote(Array.isArray(value) ? value.join(",") : String(value)),
    );
  }
  if (filters.some(({ value }) => value === null)) return null;
  for (const { key, value } of filters) words.push("--where", quote(`${key}=${value}`));
  return [...words, "--format", "csv"].join(" ");
}

/* --- answers --- */

/* Rows of an answer as [{ start, end, provisional, values: Map }] in milliseconds. */
export function startOf(row) {
  return row.window_start === null ? null : Date.parse(row.window_start);
}
export function endOf(row) {
  return row.window_end === null ? null : Date.parse(row.window_end);
}

/* merged - batch. Whole numbers without rounding, however long. */
export function difference(merged, batch) {
  const [m, b] = [String(merged ?? 0), String(batch ?? 0)];
  if (/^-?\d+$/.test(m) && /^-?\d+$/.test(b)) {
    const exact = BigInt(m) - BigInt(b);
    return Number.isSafeInteger(Number(exact)) ? Number(exact) : exact.toString();
  }
  const decimals = Math.max(...[m, b].map((text) => (text.split(".")[1] ?? "").length));
  return Number((Number(m) - Number(b)).toFixed(Math.min(decimals, 100)));
}
