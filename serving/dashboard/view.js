/* #/views/NAME: one view as a chart, a table and a receipt. */
import { Chart, seriesColour } from "./chart.js";
import { h, show, svg } from "./dom.js";
import { groupDigits, short, span, windowText } from "./format.js";
import { badge, receiptPanel } from "./receipt.js";
import {
  formatState,
  isAdditive,
  liveAddress,
  parseState,
  resolve,
  windowKind,
} from "./query.js";
import { controlsForm, filtersForm } from "./view_controls.js";
import { ViewData } from "./view_data.js";
import { statsPanel } from "./view_stats.js";
import { saveCsv, tablePanel } from "./view_table.js";

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

  /* The stream that tells of every record that counts in what is shown: all measures of its windows. */
  stream() {
    if (this.#shown === null || this.#shown.receipt === null) return null;
    const { view, chosen, from, to } = this.#shown;
    const { filters, granularity } = chosen;
    return liveAddress(view, { from, to, filters, group_by: "", granularity });
  }

  /* Rows are what they were; where the answer stands now. */
  tell(receipt) {
    if (this.#shown?.receipt?.run === receipt.run) this.#shown = { ...this.#shown, receipt };
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
      shown = await this.#data.load(
        this.#name,
        (view) => resolve(this.#state, view),
        this.#many ? ROWS_MANY : ROWS_FEW,
        signal,
      );
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
      show(
        this.#root,
        h(
          "div",
          { class: "empty" },
          h("h2", {}, this.#name),
          h("p", {}, `${this.#unknown}.`),
          h("p", {}, h("a", { href: "#/" }, "All views")),
        ),
      );
      return;
    }
    if (this.#shown === null) {
      show(
        this.#root,
        h("h1", {}, this.#name),
        h("div", { class: "panel skeleton", "aria-busy": "true" }),
        h("div", { class: "panel skeleton tall" }),
      );
      return;
    }
    const { view } = this.#shown;
    show(this.#root, this.#head(view), view.readable ? this.#body() : this.#building(view));
    this.#drawChart();
  }

  #head(view) {
    return h(
      "div",
      { class: "page-head" },
      h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Views"), " /"),
      h("h1", {}, view.view),
      h("p", { class: "description" }, view.description ?? ""),
      h(
        "p",
        { class: "note" },
        `Source ${view.source}, ${windowText(view.window)}, version ${view.version} (${view.state}). `,
        view.where === null ? null : ["Only records where ", h("code", {}, view.where), "."],
      ),
    );
  }

  #building(view) {
    return h(
      "div",
      { class: "empty" },
      h("h2", {}, "This view is being built"),
      h(
        "p",
        {},
        `Version ${view.version} has been registered, and no published batch run covers it yet. The next one does; `,
        "the page goes on by itself. To run one now: ",
        h("code", {}, "dovetail-batch run"),
      ),
    );
  }

  #body() {
    const { view, chosen, chart, table, receipt } = this.#shown;
    const choices = {
      shown: this.#shown,
      state: this.#state,
      chosen: resolve(this.#state, view) /* what is shown may still be the choice before */,
      set: (changes) => this.#set(changes),
    };
    return [
      controlsForm({ ...choices, zoom: (from, to) => this.#zoom(from, to) }),
      filtersForm(choices),
      statsPanel(this.#shown),
      chosen.measure === null || windowKind(view) === "none"
        ? this.#noChart(view)
        : this.#chartPanel(chart),
      tablePanel({
        ...this.#shown,
        part: table,
        many: this.#many,
        set: (changes) => this.#set(changes),
        more: () => {
          this.#many = !this.#many;
          this.#refresh();
        },
        save: () => saveCsv(this.#shown),
      }),
      receipt === null ? null : receiptPanel(view, receipt),
    ];
  }

  /* --- choices --- */

  #zoom(from, to) {
    const text = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");
    this.#set({ range: null, from: text(from), to: text(to), granularity: null });
  }

  /* --- the chart --- */

  #noChart(view) {
    return windowKind(view) === "none"
      ? h(
          "p",
          { class: "note" },
          "This view has no windows, so there is no time to draw it over: each row is over all time.",
        )
      : h("p", { class: "note" }, "None of the measures is a number, so there is no chart.");
  }

  #chartPanel({ value, problem }) {
    const { chosen, shares } = this.#shown;
    const empty = value === null || value.windows.length === 0;
    return h(
      "section",
      { class: "panel", "aria-labelledby": "chart-title" },
      h(
        "div",
        { class: "panel-head" },
        h(
          "h2",
          { id: "chart-title" },
          chosen.measure.name,
          chosen.chart === "groups" ? ` of the top ${chosen.group.join(", ")}` : "",
        ),
        h("code", { class: "expression" }, chosen.measure.expression),
      ),
      problem !== null
        ? h("p", { class: "problem" }, problem.message)
        : empty
          ? this.#noWindows()
          : [
              h("div", { id: "readout", class: "readout", "data-opaque": "" }),
              h("div", {
                id: "chart",
                class: "chart",
                "data-opaque": "",
                tabindex: "0",
                role: "img",
                "aria-describedby": "readout",
              }),
              this.#legend(value, shares),
              value.truncated
                ? h(
                    "p",
                    { class: "note" },
                    `Only the newest ${groupDigits(String(value.windows.length))} windows are drawn: choose a shorter range or coarser windows.`,
                  )
                : null,
            ],
    );
  }

  #noWindows() {
    const { view, receipt, chosen } = this.#shown;
    if (receipt?.watermark === null)
      return h(
        "div",
        { class: "empty" },
        h("h3", {}, "No records yet"),
        h(
          "p",
          {},
          "They appear here as they arrive: ",
          h("code", {}, `dovetail produce ${view.source} FILE`),
        ),
      );
    return h(
      "div",
      { class: "empty" },
      h("h3", {}, "No windows here"),
      h("p", {}, "Nothing in this range", chosen.filters.length > 0 ? " for these filters." : "."),
      h(
        "button",
        {
          type: "button",
          onclick: () => this.#set({ range: "all", from: null, to: null, filters: [] }),
        },
        "Show everything",
      ),
    );
  }

  #legend(value, shares) {
    const { chosen, view } = this.#shown;
    const provisional = value.windows.some((window) => window.provisional);
    const layers =
      value.kind === "bars"
        ? shares
          ? [
              ["batch", "batch layer"],
              ["speed", "speed layer"],
            ]
          : [["merged", "merged"]]
        : shares
          ? [
              ["solid", "batch layer alone"],
              ["dashed", "with the speed layer"],
            ]
          : [];
    return h(
      "p",
      { class: "legend" },
      layers.map(([name, text]) => h("span", {}, h("i", { class: `swatch ${name}` }), text)),
      provisional
        ? h("span", {}, h("i", { class: "swatch provisional" }), "provisional: more may come")
        : null,
      shares
        ? null
        : h(
            "span",
            {},
            isAdditive(chosen.measure) && windowKind(view) === "session"
              ? "Sessions of the two layers grow together, so only the merged value is shown."
              : `${chosen.measure.name} does not add up from parts, so only the merged value is shown.`,
          ),
    );
  }

  #drawChart() {
    const box = this.#root.querySelector("#chart");
    const value = this.#shown.chart?.value ?? null;
    if (box === null || value === null) return;
    if (box !== this.#chartBox) {
      this.#chart?.destroy();
      this.#chartBox = box;
      this.#chart = new Chart(
        box,
        (told) => this.#tell(told),
        (from, to) => this.#zoom(from, to),
      );
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
    show(
      readout,
      h("span", { class: "when" }, told.pointed ? "" : "newest: ", span(told.start, told.end)),
      told.provisional ? badge("warn", "provisional") : null,
      told.values.map(({ label, value, text, batch }, i) =>
        value === null && told.values.length > 1
          ? null
          : h(
              "span",
              { class: "value" },
              lines && told.values.length > 1 ? this.#dot(i) : null,
              told.values.length > 1 ? `${label} ` : null,
              h("b", {}, text),
              batch === null || value === null || told.values.length > 1
                ? null
                : h(
                    "span",
                    { class: "small" },
                    ` = ${short(batch)} batch + ${short(Number(value) - batch)} speed`,
                  ),
            ),
      ),
    );
  }

  #dot(index) {
    return svg(
      "svg",
      { class: "key", width: "10", height: "10", "aria-hidden": "true" },
      svg("circle", { cx: "5", cy: "5", r: "5", fill: seriesColour(index) }),
    );
  }
}
