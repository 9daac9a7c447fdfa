/* #/views/NAME: one view as a chart, a table and a receipt. */
import { Chart, seriesColour } from "./chart.js";
import { choice, h, show, svg } from "./dom.js";
import { exact, groupDigits, percent, short, span, time, windowText } from "./format.js";
import { badge, freshness, receiptPanel } from "./receipt.js";
import { chartable, formatState, granularities, groupables, isAdditive, isCount, parseState, ranges, resolve, windowKind } from "./query.js";
import { saveCsv, tablePanel } from "./view_table.js";
import { ViewData } from "./view_data.js";

const ROWS_FEW = 20;
const ROWS_MANY = 200;

export class ViewPage {
  #root;
  #name;
  #refresh;
  #state = parseState("");
  #data = new ViewData();
  #shown = null; /* what ViewData.load gave */
  #unknown = null; /* why there is no such view */
  #many = false;
  #chart = null;
  #chartBox = null;

  constructor(root, name, refresh) {
    this.#root = root;
    this.#name = name;
    this.#refresh = refresh;
  }

  get title() {
    return this.#name;
  }

  close() {
    this.#chart?.destroy();
  }

  live() {
    if (this.#unknown !== null) return { note: "no such view" };
    if (this.#shown === null) return null;
    const { view, receipt } = this.#shown;
    if (receipt === null) return { note: view.readable ? "no answer" : "waiting for a batch run" };
    return { run: receipt.run, freshness: receipt.freshness_ms };
  }

  /* The address says something else now. */
  choose(query) {
    this.#state = parseState(query);
    if (this.#shown === null) return;
    this.render();
    this.#root.classList.add("asking");
    this.#refresh();
  }

  async poll(signal) {
    let shown = null;
    let unknown = null;
    try {
      shown = await this.#data.load(this.#name, (view) => resolve(this.#state, view),
        this.#many ? ROWS_MANY : ROWS_FEW, signal);
    } catch (error) {
      if (error.kind !== "unknown") throw error;
      unknown = error.message;
    }
    if (signal.aborted) return;
    this.#shown = shown;
    this.#unknown = unknown;
    this.#root.classList.remove("asking");
    this.render();
  }

  #set(changes) {
    location.hash = `/views/${encodeURIComponent(this.#name)}${formatState({ ...this.#state, ...changes })}`;
  }

  /* --- the page --- */

  render() {
    if (this.#unknown !== null) {
      show(this.#root, h("div", { class: "empty" }, h("h2", {}, this.#name), h("p", {}, `${this.#unknown}.`),
        h("p", {}, h("a", { href: "#/" }, "All views"))));
      return;
    }
    if (this.#shown === null) {
      show(this.#root, h("h1", {}, this.#name), h("div", { class: "panel skeleton", "aria-busy": "true" }),
        h("div", { class: "panel skeleton tall" }));
      return;
    }
    const { view } = this.#shown;
    show(this.#root, this.#head(view), view.readable ? this.#body() : this.#building(view));
    this.#drawChart();
  }

  #head(view) {
    return h("div", { class: "page-head" },
      h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Views"), " /"),
      h("h1", {}, view.view),
      h("p", { class: "description" }, view.description ?? ""),
      h("p", { class: "note" }, `Source ${view.source}, ${windowText(view.window)}, version ${view.version} (${view.state}). `,
        view.where === null ? null : ["Only records where ", h("code", {}, view.where), "."]));
  }

  #building(view) {
    return h("div", { class: "empty" }, h("h2", {}, "This view is being built"),
      h("p", {}, `Version ${view.version} has been registered, and no published batch run covers it yet. The next one does; `,
        "the page goes on by itself. To run one now: ", h("code", {}, "dovetail-batch run")));
  }

  #body() {
    const { view, chosen, chart, table, receipt } = this.#shown;
    const now = resolve(this.#state, view);
    return [this.#controls(view, now), this.#filters(view, now), this.#stats(),
      chosen.measure === null || windowKind(view) === "none" ? this.#noChart(view) : this.#chartPanel(chart),
      tablePanel({ ...this.#shown, part: table, many: this.#many, set: (changes) => this.#set(changes),
        more: () => {
          this.#many = !this.#many;
          this.#refresh();
        },
        save: () => saveCsv(this.#shown) }),
      receipt === null ? null : receiptPanel(view, receipt)];
  }

  /* --- choices --- */

  #controls(view, chosen) {
    const groups = [...groupables(view).map(({ name }) => [name, name]),
      ...(view.keys.length > 1 ? [[view.keys.map(({ name }) => name).join(","), "all keys"]] : [])];
    const steps = granularities(view);
    return h("form", { class: "controls", "aria-label": "What to show", onsubmit: (event) => event.preventDefault() },
      chosen.measure === null ? null : choice("Measure", "measure", chartable(view).map(({ name }) => [name, name]),
        chosen.measure.name, (measure) => this.#set({ measure, sort: null })),
      groups.length === 0 ? null : [
        windowKind(view) === "none" ? null : choice("Chart", "chart-kind", [["total", "total"], ["groups", "top groups"]],
          chosen.chart, (chart) => this.#set({ chart })),
        choice("Group by", "group", groups, chosen.group.join(","), (group) => this.#set({ group, sort: null }))],
      windowKind(view) === "none" ? null : choice("Range", "range", [...ranges(view), ["custom", "from … to …"]], chosen.range,
        (range) => this.#setRange(range)),
      chosen.range === "custom" ? [this.#bound("From", "from", chosen), this.#bound("To", "to", chosen)] : null,
      steps.length < 2 ? null : choice("Granularity", "granularity", steps.map((step) =>
        [step, step === "" ? view.window.size : step]), chosen.granularity, (granularity) => this.#set({ granularity })));
  }

  #setRange(range) {
    if (range !== "custom") {
      this.#set({ range, from: null, to: null, granularity: null });
      return;
    }
    const windows = this.#shown.chart?.value?.windows ?? [];
    if (windows.length > 0) this.#zoom(windows[0].start, windows.at(-1).end);
  }

  #zoom(from, to) {
    const text = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");
    this.#set({ range: null, from: text(from), to: text(to), granularity: null });
  }

  #bound(label, name, chosen) {
    return h("div", { class: "field" }, h("label", { for: name }, `${label} (UTC)`),
      h("input", { id: name, type: "datetime-local", value: chosen[name]?.slice(0, 16) ?? "", onchange: (event) => {
        const { value } = event.target;
        this.#set({ [name]: value === "" ? null : `${value}:00Z` });
      } }));
  }

  #filters(view, chosen) {
    const names = groupables(view).map(({ name }) => name);
    if (names.length === 0) return null;
    const values = (this.#shown.table?.value?.rows ?? []).map((row) => row[names[0]]);
    const without = (filter) => this.#state.filters.filter(({ key }) => key !== filter.key);
    return h("div", { class: "filters" },
      h("form", { "aria-label": "Add a filter", onsubmit: (event) => {
        event.preventDefault();
        const key = event.target.querySelector("select").value;
        const input = event.target.querySelector("input");
        this.#set({ filters: [...without({ key }), { key, value: input.value }] });
        input.value = "";
      } },
      h("label", { for: "filter-key" }, "Only"),
      h("select", { id: "filter-key", "data-keep": true }, names.map((name) => h("option", { value: name }, name))),
      h("label", { for: "filter-value" }, "="),
      h("input", { id: "filter-value", "data-keep": true, list: "filter-values", autocomplete: "off", size: "12", spellcheck: "false" }),
      h("datalist", { id: "filter-values" }, values.filter((value) => value !== null && value !== undefined)
        .map((value) => h("option", { value: String(value) }))),
      h("button", { type: "submit" }, "Filter")),
      chosen.filters.map((filter) => h("button", { type: "button", class: "chip",
        "aria-label": `Remove the filter ${filter.key}`,
        onclick: () => this.#set({ filters: without(filter) }) },
      `${filter.key} ${filter.value === null ? "is NULL" : `= ${filter.value === "" ? "\"\"" : filter.value}`}`, h("span", { "aria-hidden": "true" }, " ×"))));
  }

  /* --- numbers --- */

  #stats() {
    const { chosen, total, chart, receipt } = this.#shown;
    const windows = chart?.value?.windows ?? [];
    const provisional = windows.filter((window) => window.provisional).length;
    const fresh = freshness(receipt?.freshness_ms);
    return h("div", { class: "stats panel" }, total?.value ? this.#totalStat(chosen.measure, total.value) : null,
      windows.length > 0 ? h("div", { class: "stat" }, h("span", { class: "label" }, "Windows"),
        h("span", { class: "big" }, groupDigits(String(windows.length))),
        h("span", { class: "small" }, provisional > 0 ? `${groupDigits(String(provisional))} provisional` : "all complete")) : null,
      receipt === null ? null : h("div", { class: "stat" }, h("span", { class: "label" }, "Freshness"),
        h("span", { class: `big ${fresh.level}` }, fresh.text.replace("live, ", "")),
        h("span", { class: "small" }, receipt.run > 0 ? `batch run ${receipt.run} + speed layer` : "speed layer alone, no run yet")),
      receipt === null ? null : h("div", { class: "stat" }, h("span", { class: "label" }, "Watermark"),
        h("span", { class: "big time" }, time(receipt.watermark)), h("span", { class: "small" }, "UTC, of the events")));
  }

  #totalStat(measure, { value, batch, speed }) {
    const shares = batch !== null && value !== null;
    return h("div", { class: "stat wide" }, h("span", { class: "label" }, `${measure.name} in this range`),
      h("span", { class: "big", id: "total", title: exact(value) },
        value === null ? (isCount(measure) ? "0" : "none") : short(value)),
      shares ? [this.#shareLine(batch, speed, value),
        h("span", { class: "small" }, h("i", { class: "swatch batch" }), h("span", { id: "total-batch" }, short(batch)), " batch + ",
          h("i", { class: "swatch speed" }), h("span", { id: "total-speed" }, short(speed)), " speed")]
        : h("span", { class: "small" }, isAdditive(measure) ? "" : "merged from both layers"));
  }

  #shareLine(batch, speed, value) {
    const whole = Math.abs(Number(value)) || 1;
    const at = (n) => `${Math.min(100, (100 * Math.abs(Number(n))) / whole)}%`;
    return svg("svg", { class: "bar", role: "img", "aria-label": `batch ${percent(Math.abs(Number(batch)), whole)}, speed ${percent(Math.abs(Number(speed)), whole)}`,
      width: "100%", height: "8" }, svg("rect", { class: "rest", width: "100%", height: "8" }),
    svg("rect", { class: "batch", width: at(batch), height: "8" }),
    svg("rect", { class: "speed", x: at(batch), width: at(speed), height: "8" }));
  }

  /* --- the chart --- */

  #noChart(view) {
    return windowKind(view) === "none"
      ? h("p", { class: "note" }, "This view has no windows, so there is no time to draw it over: each row is over all time.")
      : h("p", { class: "note" }, "None of the measures is a number, so there is no chart.");
  }

  #chartPanel({ value, problem }) {
    const { chosen, shares } = this.#shown;
    const empty = value === null || value.windows.length === 0;
    return h("section", { class: "panel", "aria-labelledby": "chart-title" },
      h("div", { class: "panel-head" }, h("h2", { id: "chart-title" }, chosen.measure.name,
        chosen.chart === "groups" ? ` of the top ${chosen.group.join(", ")}` : ""),
      h("code", { class: "expression" }, chosen.measure.expression)),
      problem !== null ? h("p", { class: "problem" }, problem.message) : empty ? this.#noWindows() : [
        h("div", { id: "readout", class: "readout", "data-opaque": "" }),
        h("div", { id: "chart", class: "chart", "data-opaque": "", tabindex: "0", role: "img", "aria-describedby": "readout" }),
        this.#legend(value, shares),
        value.truncated ? h("p", { class: "note" }, `Only the newest ${groupDigits(String(value.windows.length))} windows are drawn: choose a shorter range or coarser windows.`) : null]);
  }

  #noWindows() {
    const { view, receipt, chosen } = this.#shown;
    if (receipt?.watermark === null)
      return h("div", { class: "empty" }, h("h3", {}, "No records yet"), h("p", {}, "They appear here as they arrive: ",
        h("code", {}, `dovetail produce ${view.source} FILE`)));
    return h("div", { class: "empty" }, h("h3", {}, "No windows here"),
      h("p", {}, "Nothing in this range", chosen.filters.length > 0 ? " for these filters." : "."),
      h("button", { type: "button", onclick: () => this.#set({ range: "all", from: null, to: null, filters: [] }) }, "Show everything"));
  }

  #legend(value, shares) {
    const { chosen, view } = this.#shown;
    const provisional = value.windows.some((window) => window.provisional);
    const layers = value.kind === "bars"
      ? shares ? [["batch", "batch layer"], ["speed", "speed layer"]] : [["merged", "merged"]]
      : shares ? [["solid", "batch layer alone"], ["dashed", "with the speed layer"]] : [];
    return h("p", { class: "legend" }, layers.map(([name, text]) => h("span", {}, h("i", { class: `swatch ${name}` }), text)),
      provisional ? h("span", {}, h("i", { class: "swatch provisional" }), "provisional: more may come") : null,
      shares ? null : h("span", {}, isAdditive(chosen.measure) && windowKind(view) === "session"
        ? "Sessions of the two layers grow together, so only the merged value is shown."
        : `${chosen.measure.name} does not add up from parts, so only the merged value is shown.`));
  }

  #drawChart() {
    const box = this.#root.querySelector("#chart");
    const value = this.#shown.chart?.value ?? null;
    if (box === null || value === null) return;
    if (box !== this.#chartBox) {
      this.#chart?.destroy();
      this.#chartBox = box;
      this.#chart = new Chart(box, (told) => this.#tell(told), (from, to) => this.#zoom(from, to));
    }
    this.#chart.set(value);
  }

  /* The line above the chart: the window that is pointed at, in words. */
  #tell(told) {
    const readout = this.#root.querySelector("#readout");
    if (readout === null) return;
    if (told === null) {
      show(readout);
      return;
    }
    readout.setAttribute("aria-live", told.pointed ? "polite" : "off");
    const lines = this.#shown.chart.value.kind === "lines";
    show(readout, h("span", { class: "when" }, told.pointed ? "" : "newest: ", span(told.start, told.end)),
      told.provisional ? badge("warn", "provisional") : null,
      told.values.map(({ label, value, text, batch }, i) => h("span", { class: "value" },
        lines && told.values.length > 1 ? this.#dot(i) : null, told.values.length > 1 ? `${label} ` : null, h("b", {}, text),
        batch === null || value === null || told.values.length > 1 ? null
          : h("span", { class: "small" }, ` = ${short(batch)} batch + ${short(Number(value) - batch)} speed`))));
  }

  #dot(index) {
    return svg("svg", { class: "key", width: "10", height: "10", "aria-hidden": "true" },
      svg("circle", { cx: "5", cy: "5", r: "5", fill: seriesColour(index) }));
  }
}
