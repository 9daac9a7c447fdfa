/* #/: all views as cards, each with a small picture of its newest windows. */
import { getJson } from "./api.js";
import { h, show, svg } from "./dom.js";
import { duration, short, windowText } from "./format.js";
import { badge, freshness, leastFresh } from "./receipt.js";
import {
  bounds,
  chartable,
  isAdditive,
  resolve,
  parseState,
  receiptAddress,
  rollsUp,
  rowsAddress,
  windowKind,
} from "./query.js";

const PICTURES_EVERY_MS = 6000;
const PICTURES_AHEAD_PX = 400; /* below and above what is on the screen */
const FIND_FROM = 10; /* views, from which on a field helps to find one */
const PICTURE_WIDTH = 240;
const PICTURE_HEIGHT = 48;

/* One polyline over the values; the area below it is filled. */
function picture(values, label) {
  const high = Math.max(...values, 0);
  const low = Math.min(...values, 0);
  const x = (i) => (values.length > 1 ? (i * PICTURE_WIDTH) / (values.length - 1) : 0);
  const y = (value) =>
    PICTURE_HEIGHT - 2 - ((value - low) * (PICTURE_HEIGHT - 4)) / (high - low || 1);
  const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${PICTURE_WIDTH} ${PICTURE_HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    svg("polygon", { points: `0,${y(0)} ${points} ${PICTURE_WIDTH},${y(0)}` }),
    svg("polyline", { points }),
  );
}

export class Overview {
  title = "Views";
  #root;
  #views = null;
  #status = null; /* { run, sources: [{ source, watermark, freshness_ms }] } */
  #isForbidden = false;
  #pictures = new Map(); /* view -> { values, measure, newest }; null: it cannot be had */
  #picturesAt = -Infinity;
  #wanted = ""; /* what is typed to find a view */

  constructor(root) {
    this.#root = root;
  }

  close() {}

  async poll(signal) {
    const { views } = await getJson("/v1/views", signal);
    this.#status = await this.#readStatus(views, signal);
    this.#views = views;
    this.render();
    const isDue = performance.now() - this.#picturesAt >= PICTURES_EVERY_MS;
    const missing = this.#near().filter(({ view }) => isDue || !this.#pictures.has(view));
    for (const view of missing) await this.#take(view, signal);
    if (isDue) this.#picturesAt = performance.now();
    if (missing.length > 0 && !signal.aborted) this.render();
  }

  /* Those whose cards are on the screen, or nearly: nobody waits for pictures that he does not see. */
  #near() {
    const cards = [...this.#root.querySelectorAll("li.card")];
    return this.#found().filter(({ readable }, i) => {
      const box = cards[i]?.getBoundingClientRect();
      return (
        readable &&
        box !== undefined &&
        box.bottom > -PICTURES_AHEAD_PX &&
        box.top < window.innerHeight + PICTURES_AHEAD_PX
      );
    });
  }

  /* Views in whose name, description or source every word is that was typed. */
  #found() {
    const words = this.#wanted.toLowerCase().split(/\s+/);
    return this.#views.filter(({ view, description, source }) => {
      const text = `${view} ${description ?? ""} ${source}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  /* What /v1/status says of sources; for a token that may not ask it, what receipts of his views say. */
  async #readStatus(views, signal) {
    if (!this.#isForbidden) {
      try {
        return await getJson("/v1/status", signal);
      } catch (error) {
        if (error.kind !== "forbidden") throw error;
        this.#isForbidden = true;
      }
    }
    const sources = new Map();
    let run = 0;
    for (const view of views.filter(({ readable }) => readable)) {
      if (sources.has(view.source)) continue;
      const { receipt } = await getJson(receiptAddress(view), signal);
      const { watermark, freshness_ms } = receipt;
      sources.set(view.source, { source: view.source, watermark, freshness_ms });
      run = receipt.run;
    }
    return { run, sources: [...sources.values()] };
  }

  /* A view whose picture cannot be had goes without one. */
  async #take(view, signal) {
    const measure = chartable(view).find(isAdditive) ?? chartable(view)[0];
    if (measure === undefined || windowKind(view) === "none") {
      this.#pictures.set(view.view, null);
      return;
    }
    const chosen = resolve(parseState(""), view);
    const [from, to] = bounds(chosen, view, this.#watermark(view));
    try {
      const answer = await getJson(
        rowsAddress(view, {
          from,
          to,
          group_by: "",
          granularity: chosen.granularity,
          measures: measure.name,
          order: "-window_start",
          limit: 120,
        }),
        signal,
      );
      const values = answer.rows.map((row) => Number(row[measure.name] ?? 0)).reverse();
      this.#pictures.set(view.view, {
        values,
        measure: measure.name,
        newest: answer.rows[0]?.[measure.name] ?? null,
      });
    } catch (error) {
      if (signal.aborted || error.isGlobal) throw error;
      this.#pictures.set(view.view, null);
    }
  }

  #source(view) {
    return this.#status.sources.find(({ source }) => source === view.source) ?? null;
  }

  #watermark(view) {
    const text = this.#source(view)?.watermark ?? null;
    return text === null ? null : Date.parse(text);
  }

  live() {
    if (this.#status === null) return null;
    return { run: this.#status.run, freshness: leastFresh(this.#status.sources) };
  }

  render() {
    if (this.#views === null) {
      show(
        this.#root,
        h("h1", {}, "Views"),
        h(
          "div",
          { class: "cards", "aria-busy": "true" },
          [1, 2, 3].map(() => h("div", { class: "card skeleton" })),
        ),
      );
      return;
    }
    show(
      this.#root,
      h("h1", {}, "Views"),
      this.#views.length === 0 ? this.#empty() : this.#list(),
    );
  }

  #list() {
    const found = this.#found();
    return [
      this.#views.length < FIND_FROM ? null : this.#finder(found.length),
      found.length === 0
        ? h("p", { class: "empty" }, "No view has all of these words.")
        : h(
            "ul",
            { class: "cards" },
            found.map((view) => this.#card(view)),
          ),
    ];
  }

  #finder(count) {
    return h(
      "div",
      { class: "filters", role: "search" },
      h("label", { for: "find" }, "Find"),
      h("input", {
        id: "find",
        type: "search",
        "data-keep": true,
        autocomplete: "off",
        spellcheck: "false",
        oninput: (event) => {
          this.#wanted = event.target.value.trim();
          this.render();
        },
      }),
      h(
        "span",
        { class: "note", role: "status" },
        count === this.#views.length ? `${count} views` : `${count} of ${this.#views.length} views`,
      ),
    );
  }

  #empty() {
    if (this.#isForbidden)
      return h(
        "div",
        { class: "empty" },
        h("h2", {}, "No views for this token"),
        h("p", {}, "Whoever configures the server says which views a token opens."),
      );
    return h(
      "div",
      { class: "empty" },
      h("h2", {}, "No views yet"),
      h(
        "p",
        {},
        "Describe one in ",
        h("code", {}, "schemas/views/"),
        ", then run ",
        h("code", {}, "dovetail init"),
        ". It appears here by itself.",
      ),
    );
  }

  #card(view) {
    const ms = this.#source(view)?.freshness_ms ?? null;
    const fresh = freshness(ms);
    const seen = this.#pictures.get(view.view);
    return h(
      "li",
      { class: "card" },
      h(
        "div",
        { class: "card-head" },
        h("h2", {}, h("a", { href: `#/views/${encodeURIComponent(view.view)}` }, view.view)),
        view.readable ? badge(fresh.level, fresh.text) : badge("warn", "being built"),
      ),
      h(
        "p",
        { class: "description" },
        view.description ??
          `${view.measures.map(({ name }) => name).join(", ")} of ${view.source}.`,
      ),
      seen?.values.length > 1
        ? h(
            "figure",
            {},
            picture(seen.values, `${seen.measure} of the newest ${seen.values.length} windows`),
            h(
              "figcaption",
              {},
              h("b", {}, seen.measure),
              rollsUp(view) ? " over time, newest " : ", newest ",
              h("b", {}, short(seen.newest)),
            ),
          )
        : h("figure", { class: "blank" }, h("figcaption", {}, this.#reason(view, seen))),
      h(
        "dl",
        { class: "pairs" },
        h("dt", {}, "Source"),
        h(
          "dd",
          {},
          view.source === view.topic ? view.source : `${view.source} (topic ${view.topic})`,
        ),
        h("dt", {}, "Windows"),
        h("dd", {}, windowText(view.window)),
        h("dt", {}, "Keys"),
        h("dd", {}, view.keys.map(({ name }) => name).join(", ") || "none"),
        h("dt", {}, "State"),
        h(
          "dd",
          {},
          `version ${view.version}, ${view.state}${view.run > 0 ? `, run ${view.run}` : ", no run yet"}`,
        ),
        h("dt", {}, "Fresh"),
        h("dd", {}, ms === null ? "not read yet" : `as of ${duration(ms)} ago`),
      ),
    );
  }

  #reason(view, seen) {
    if (!view.readable) return "The next batch run publishes it.";
    if (this.#source(view)?.watermark === null) return "No records yet.";
    if (windowKind(view) === "none") return "One row for each group, over all time.";
    if (seen === null) return "There is no picture of it.";
    return seen ? "One window so far." : "Reading…";
  }
}
