/* What a view's page asks for, and what it makes of the answers. No elements here. */
import { BatchAnswers, getJson } from "./api.js";
import { keyText } from "./format.js";
import {
  bounds,
  difference,
  endOf,
  isAdditive,
  lengthMs,
  receiptAddress,
  rollsUp,
  rowsAddress,
  startOf,
  windowKind,
  windowMs,
  SERIES_MAX,
  WINDOWS_MAX,
} from "./query.js";

const BATCH_GROUPS_MAX = 5000;
const NEWEST_GROUPS_READ = 50;
const NULLS_READ = 2000;

/* Null keys and the text "null" are different groups. */
const identity = (row, keys) =>
  JSON.stringify(keys.map((key) => (row[key] === null ? null : String(row[key]))));

/* A promise's value, or the problem that concerns this part of the page alone. */
async function part(promise) {
  try {
    return { value: await promise, problem: null };
  } catch (error) {
    if (error.kind === undefined || error.isGlobal || error.kind === "building") throw error;
    return { value: null, problem: error };
  }
}

export class ViewData {
  #batch = new BatchAnswers();
  #watermark; /* milliseconds, null: no event yet, undefined: not asked */

  /* { view, chosen, from, to, total, chart, table, receipt }: total, chart and table are parts. */
  async load(name, resolveFor, tableRows, signal) {
    const view = await getJson(`/v1/views/${encodeURIComponent(name)}`, signal);
    const chosen = resolveFor(view);
    if (!view.readable) return { view, chosen, receipt: null };
    if (this.#watermark === undefined) await this.#askWatermark(view, signal);
    const [from, to] = bounds(chosen, view, this.#watermark);
    const ask = {
      view,
      chosen,
      from,
      to,
      tableRows,
      signal,
      common: { from, to, filters: chosen.filters },
      shares:
        chosen.measure !== null && isAdditive(chosen.measure) && windowKind(view) !== "session",
    };
    const [total, chart, table] = await Promise.all([
      part(this.#total(ask)),
      part(this.#chart(ask)),
      part(this.#table(ask)),
    ]);
    const receipt = [chart, total, table].map(({ value }) => value?.receipt).find(Boolean) ?? null;
    if (receipt !== null)
      this.#watermark = receipt.watermark === null ? null : Date.parse(receipt.watermark);
    return { view, chosen, from, to, total, chart, table, receipt, shares: ask.shares };
  }

  async #askWatermark(view, signal) {
    const { receipt } = await getJson(receiptAddress(view), signal);
    this.#watermark = receipt.watermark === null ? null : Date.parse(receipt.watermark);
  }

  /* NULL comes first in a descending order, which nobody wants to see: where it does, enough is read to
   * put it last. */
  async #ordered(view, parameters, signal) {
    const answer = await getJson(rowsAddress(view, parameters), signal);
    const column = /^-(.+)$/.exec(parameters.order ?? "")?.[1];
    if (answer.rows.length === 0 || answer.rows[0][column] !== null) return answer;
    const more = await getJson(
      rowsAddress(view, { ...parameters, limit: parameters.limit + NULLS_READ }),
      signal,
    );
    const isNull = (row) => row[column] === null;
    more.rows = [...more.rows.filter((row) => !isNull(row)), ...more.rows.filter(isNull)].slice(
      0,
      parameters.limit,
    );
    return more;
  }

  /* The merged answer and, where shares can be told, the batch layer's for the same run; else null. */
  async #both({ view, shares, signal }, parameters, batchParameters = parameters) {
    const merged = await this.#ordered(view, parameters, signal);
    const batch = shares
      ? await this.#batch.get(
          rowsAddress(view, { ...batchParameters, layer: "batch" }),
          merged.receipt.run,
          (view.lookups ?? []).length > 0,
          signal,
        )
      : null;
    return { merged, batch };
  }

  /* --- the number over everything that is shown --- */

  async #total(ask) {
    const { view, chosen, common } = ask;
    if (chosen.measure === null || (!rollsUp(view) && windowKind(view) !== "none")) return null;
    const name = chosen.measure.name;
    const granularity = rollsUp(view) ? "all" : null;
    const { merged, batch } = await this.#both(ask, {
      ...common,
      group_by: "",
      granularity,
      measures: name,
    });
    const value = merged.rows[0]?.[name] ?? null;
    const below = batch === null ? null : (batch.rows[0]?.[name] ?? 0);
    return {
      value,
      batch: below,
      speed: below === null ? null : difference(value, below),
      receipt: merged.receipt,
    };
  }

  /* --- the chart --- */

  async #chart(ask) {
    const { view, chosen } = ask;
    if (chosen.measure === null || windowKind(view) === "none") return null;
    if (chosen.chart === "total") {
      const one = await this.#series(ask, chosen.measure.name, chosen.filters);
      return this.#picture(ask, [one]);
    }
    const groups = await this.#topGroups(ask);
    const others = chosen.filters.filter(({ key }) => !chosen.group.includes(key));
    const series = await Promise.all(
      groups.map((row) =>
        this.#series(ask, chosen.group.map((key) => keyText(row[key])).join(" / "), [
          ...others,
          ...chosen.group.map((key) => ({
            key,
            value: row[key] === null ? null : String(row[key]),
          })),
        ]),
      ),
    );
    return this.#picture(ask, series);
  }

  /* Those with the greatest values; where windows cannot be rolled up, of the newest windows. */
  async #topGroups({ view, chosen, common, signal }) {
    const name = chosen.measure.name;
    const how = rollsUp(view)
      ? { granularity: "all", order: `-${name}`, limit: SERIES_MAX }
      : { order: `-window_start,-${name}`, limit: NEWEST_GROUPS_READ };
    const answer = await this.#ordered(
      view,
      { ...common, group_by: chosen.group, measures: name, ...how },
      signal,
    );
    const known = new Map();
    for (const row of answer.rows.filter((r) => r[name] !== null))
      if (!known.has(identity(row, chosen.group))) known.set(identity(row, chosen.group), row);
    return [...known.values()].slice(0, SERIES_MAX);
  }

  /* The newest windows of one series, oldest first. */
  async #series(ask, label, filters) {
    const { chosen, from, to } = ask;
    const parameters = {
      from,
      to,
      filters,
      group_by: "",
      granularity: chosen.granularity,
      measures: chosen.measure.name,
      order: "-window_start",
      limit: WINDOWS_MAX,
    };
    const { merged, batch } = await this.#both(ask, parameters);
    return {
      label,
      rows: merged.rows.reverse(),
      receipt: merged.receipt,
      truncated: merged.rows.length === WINDOWS_MAX,
      batch:
        batch === null
          ? null
          : new Map(batch.rows.map((row) => [row.window_start, row[chosen.measure.name]])),
    };
  }

  /* All series over the same windows. Of a sum or a count a window without records is zero; of other
   * measures it has no value. */
  #picture(ask, series) {
    const { chosen, view } = ask;
    const name = chosen.measure.name;
    const windows = new Map();
    for (const { rows } of series)
      for (const row of rows) {
        const known = windows.get(row.window_start);
        if (known === undefined)
          windows.set(row.window_start, {
            key: row.window_start,
            start: startOf(row),
            end: endOf(row),
            provisional: row.provisional,
          });
        else known.provisional ||= row.provisional;
      }
    const zero = isAdditive(chosen.measure) && windowKind(view) !== "session" ? 0 : null;
    const bars =
      chosen.chart === "total" && isAdditive(chosen.measure) && windowKind(view) !== "hopping";
    const all = fillGaps(
      [...windows.values()].sort((a, b) => a.start - b.start),
      !bars && zero === 0 && windowKind(view) === "fixed"
        ? lengthMs(chosen.granularity) || windowMs(view)
        : 0,
    );
    const take = ({ label, rows, batch }) => {
      const values = new Map(rows.map((row) => [row.window_start, row[name]]));
      const shown = all.map(({ key }) => (values.has(key) ? values.get(key) : zero));
      return {
        label,
        shown,
        values: shown.map((value) => (value === null ? null : Number(value))),
        batch: batch === null ? null : all.map(({ key }) => Number(batch.get(key) ?? 0)),
      };
    };
    return {
      kind: bars ? "bars" : "lines",
      windows: all,
      series: series.map(take),
      truncated: series.some(({ truncated }) => truncated),
      receipt: series[0]?.receipt ?? null,
    };
  }

  /* --- the table --- */

  async #table(ask) {
    const { chosen } = ask;
    try {
      return await this.#rows(ask, null);
    } catch (error) {
      /* One measure that cannot be shown, such as a distinct count beyond its limit, hides no other. */
      if (error.kind !== "refused" || chosen.measure === null) throw error;
      return { ...(await this.#rows(ask, [chosen.measure.name])), note: error.message };
    }
  }

  async #rows(ask, measures) {
    const { view, chosen, common, tableRows } = ask;
    const groups = chosen.table === "groups";
    const granularity = groups ? (rollsUp(view) ? "all" : null) : chosen.granularity || null;
    const allowed =
      measures === null || measures.includes(chosen.sort?.replace(/^-/, ""))
        ? chosen.sort
        : `-${measures[0]}`;
    const parameters = {
      ...common,
      group_by: chosen.group,
      granularity,
      measures,
      order: allowed,
      limit: tableRows,
    };
    const shareable = { ...ask, shares: ask.shares && groups };
    const { merged, batch } = await this.#both(shareable, parameters, {
      ...common,
      group_by: chosen.group,
      granularity,
      measures: chosen.measure?.name,
      order: chosen.measure && `-${chosen.measure.name}`,
      limit: BATCH_GROUPS_MAX,
    });
    return {
      rows: merged.rows,
      receipt: merged.receipt,
      parameters,
      note: null,
      measures: view.measures.filter(({ name }) => measures === null || measures.includes(name)),
      batchOf: this.#lookup(batch, chosen),
    };
  }

  /* row -> the batch layer's part of it; null where that is not known. */
  #lookup(batch, chosen) {
    if (batch === null) return () => null;
    const complete = batch.rows.length < BATCH_GROUPS_MAX;
    const known = new Map(
      batch.rows.map((row) => [identity(row, chosen.group), row[chosen.measure.name]]),
    );
    return (row) => known.get(identity(row, chosen.group)) ?? (complete ? 0 : null);
  }
}

function fillGaps(windows, stepMs) {
  if (stepMs === 0 || windows.length < 2) return windows;
  const count = (windows.at(-1).start - windows[0].start) / stepMs;
  if (count > 2 * WINDOWS_MAX) return windows;
  const known = new Map(windows.map((window) => [window.start, window]));
  const out = [];
  let provisional = false;
  for (let start = windows[0].start; start <= windows.at(-1).start; start += stepMs) {
    const window = known.get(start) ?? { key: null, start, end: start + stepMs, provisional };
    provisional = window.provisional;
    out.push(window);
  }
  return out;
}
