/* #/pipeline: how far each partition has come, what became of its records, and the batch runs. */
import { getJson } from "./api.js";
import { h, show, shareBar, svg } from "./dom.js";
import { compact, duration, groupDigits, time } from "./format.js";
import { badge, freshness, leastFresh } from "./receipt.js";

const SAMPLES_MAX = 120;
const STAGES = ["load", "prepare", "process", "store"];
const FATES = ["counted", "filtered", "duplicate", "dead_lettered"];
const whole = (n) => groupDigits(String(n));

/* Records/s of each partition between two answers; the server's clock, not this machine's. */
export function rates(before, after) {
  const out = new Map();
  const seconds = before === null ? 0 : (Date.parse(after.now) - Date.parse(before.now)) / 1000;
  if (!(seconds > 0)) return out;
  for (const { topic, partitions } of after.sources) {
    const old = before.sources.find((source) => source.topic === topic)?.partitions ?? [];
    for (const { partition, ledger } of partitions) {
      const then = old.find((p) => p.partition === partition);
      if (then !== undefined)
        out.set(
          `${topic}/${partition}`,
          Math.max(0, ledger.consumed - then.ledger.consumed) / seconds,
        );
    }
  }
  return out;
}

function rateText(rate) {
  return rate === undefined ? "–" : compact(rate < 10 ? Number(rate.toFixed(1)) : Math.round(rate));
}

function graph(samples) {
  const width = 300;
  const height = 56;
  const high = Math.max(...samples, 1);
  const step = width / (SAMPLES_MAX - 1);
  const points = samples.map(
    (rate, i) =>
      `${(width - (samples.length - 1 - i) * step).toFixed(1)},${(height - 1 - (rate * (height - 4)) / high).toFixed(1)}`,
  );
  return svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Records per second of the last ${samples.length} refreshes, at most ${compact(high)}`,
    },
    samples.length > 1
      ? svg("polygon", {
          points: `${points[0].split(",")[0]},${height} ${points.join(" ")} ${width},${height}`,
        })
      : null,
    svg("polyline", { points: points.join(" ") }),
  );
}

function table(label, heads, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map(([text, number]) =>
            h("th", { scope: "col", class: number ? "number" : null }, text),
          ),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}

function cell(text, attributes = {}) {
  return h("td", { class: "number", ...attributes }, text);
}

export class Pipeline {
  title = "Pipeline";
  #root;
  #status = null;
  #isForbidden = false;
  #rates = new Map();
  #samples = new Map(); /* source -> records/s, newest last */

  constructor(root) {
    this.#root = root;
  }

  close() {}

  async poll(signal) {
    if (this.#isForbidden) return; /* until another token makes another page */
    let status;
    try {
      status = await getJson("/v1/status", signal);
    } catch (error) {
      if (error.kind !== "forbidden") throw error;
      this.#isForbidden = true;
      this.render();
      return;
    }
    this.#rates = rates(this.#status, status);
    if (this.#status !== null)
      for (const { source, topic, partitions } of status.sources) {
        const sum = partitions.reduce(
          (n, { partition }) => n + (this.#rates.get(`${topic}/${partition}`) ?? 0),
          0,
        );
        this.#samples.set(source, [...(this.#samples.get(source) ?? []), sum].slice(-SAMPLES_MAX));
      }
    this.#status = status;
    this.render();
  }

  live() {
    if (this.#isForbidden) return { note: "not for this token" };
    if (this.#status === null) return null;
    return { run: this.#status.run, freshness: leastFresh(this.#status.sources) };
  }

  render() {
    if (this.#isForbidden) {
      show(
        this.#root,
        h("h1", {}, "Pipeline"),
        h(
          "div",
          { class: "empty", id: "admins-only" },
          h("h2", {}, "For administrators"),
          h(
            "p",
            {},
            "This page tells of all topics and views, so it takes a token with the role ",
            h("code", {}, "admin"),
            ".",
          ),
          h("p", {}, h("a", { href: "#/" }, "Views of your token")),
        ),
      );
      return;
    }
    if (this.#status === null) {
      show(
        this.#root,
        h("h1", {}, "Pipeline"),
        h("div", { class: "panel skeleton tall", "aria-busy": "true" }),
      );
      return;
    }
    const { sources, runs, run, refused } = this.#status;
    show(
      this.#root,
      h("h1", {}, "Pipeline"),
      sources.length === 0
        ? h(
            "div",
            { class: "empty" },
            h("h2", {}, "No sources yet"),
            h(
              "p",
              {},
              "Describe one in ",
              h("code", {}, "schemas/sources/"),
              ", then run ",
              h("code", {}, "dovetail init"),
              ".",
            ),
          )
        : null,
      refused.map(({ view, version, source, topic, reason }) =>
        h(
          "p",
          { class: "problem" },
          h("b", {}, view === null ? `Source ${source} is refused` : `${view}, version ${version}, is refused`),
          `: ${reason}. The layers of this release leave the topic ${topic} alone.`,
        ),
      ),
      sources.map((source) => this.#source(source)),
      this.#runs(runs, run),
    );
  }

  /* --- sources --- */

  #source(source) {
    const fresh = freshness(source.freshness_ms);
    const samples = this.#samples.get(source.source) ?? [];
    const sum = (get) => source.partitions.reduce((n, partition) => n + get(partition), 0);
    const owners = source.partitions.filter(({ owner_alive }) => owner_alive).length;
    return h(
      "section",
      { class: "panel" },
      h(
        "div",
        { class: "panel-head" },
        h("h2", {}, source.source),
        badge(fresh.level, fresh.text),
        owners === source.partitions.length && owners > 0
          ? null
          : badge(
              "bad",
              owners === 0
                ? "no speed layer is running"
                : `${source.partitions.length - owners} partitions without an owner`,
            ),
      ),
      h(
        "div",
        { class: "stats" },
        h(
          "div",
          { class: "stat wide" },
          h("span", { class: "label" }, "Records per second"),
          h(
            "span",
            { class: "big", id: `rate-${source.source}` },
            samples.length > 0 ? rateText(samples.at(-1)) : "–",
          ),
          graph(samples),
        ),
        h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Consumed by the speed layer"),
          h("span", { class: "big" }, whole(sum(({ ledger }) => ledger.consumed))),
          h(
            "span",
            { class: "small" },
            `topic ${source.topic}, ${source.partitions.length} partitions`,
          ),
        ),
        h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Beyond the batch layer, P − C"),
          h("span", { class: "big" }, whole(sum(({ position, cutoff }) => position - cutoff))),
          h("span", { class: "small" }, "the next run takes them over"),
        ),
        h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Watermark"),
          h("span", { class: "big time" }, time(source.watermark)),
          h("span", { class: "small" }, "UTC; windows that end later are provisional"),
        ),
      ),
      source.partitions.length === 0
        ? h("p", { class: "note" }, "No partitions: run dovetail init.")
        : [this.#halted(source), this.#offsets(source), this.#ledger(source), this.#gaps(source)],
      this.#imported(source),
    );
  }

  /* Partitions with which a layer cannot go on. */
  #halted({ source, partitions }) {
    const halts = partitions.flatMap(({ partition, halted }) =>
      (halted ?? []).map((halt) => ({ partition, ...halt })),
    );
    if (halts.length === 0) return null;
    return [
      h("h3", {}, "Halted"),
      h(
        "p",
        { class: "note" },
        "Answers go on with what these partitions have. ",
        h("code", {}, `dovetail resume ${source}`),
        " says what is lost and how to go on without it.",
      ),
      table(
        `Halted partitions of ${source}`,
        [["Partition"], ["Layer"], ["Since", 1], ["Why"]],
        halts.map(({ partition, layer, since, message }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(partition)),
            h("td", {}, badge("bad", layer)),
            cell(time(since)),
            h("td", {}, message),
          ),
        ),
      ),
    ];
  }

  /* Offsets that an operator gave up. */
  #gaps({ source, partitions }) {
    const gaps = partitions.flatMap(({ partition, gaps: own }) =>
      (own ?? []).map((gap) => ({ partition, ...gap })),
    );
    if (gaps.length === 0) return null;
    return [
      h("h3", {}, "Gaps"),
      h("p", { class: "note" }, "Offsets that are lost and were given up; no answer has them."),
      table(
        `Gaps of ${source}`,
        [["Partition"], ["From", 1], ["To, exclusive", 1], ["Offsets", 1], ["Accepted", 1]],
        gaps.map(({ partition, from, to, accepted_at }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(partition)),
            cell(whole(from)),
            cell(whole(to)),
            cell(whole(to - from)),
            cell(time(accepted_at)),
          ),
        ),
      ),
    ];
  }

  /* Records from files of before the topic. */
  #imported({ source, imported }) {
    if (!imported) return null;
    const { archived, cutoff, ledger } = imported;
    return [
      h("h3", {}, "Imported records"),
      archived > cutoff
        ? h("p", { class: "note" }, "The next batch run takes over what is archived only.")
        : null,
      table(
        `Imported records of ${source}`,
        [
          ["Archived", 1],
          ["In answers", 1],
          ...FATES.map((fate) => [fate.replace("_", "-"), 1]),
        ],
        [
          h(
            "tr",
            {},
            cell(whole(archived)),
            cell(whole(cutoff)),
            FATES.map((fate) => cell(whole(ledger[fate]))),
          ),
        ],
      ),
    ];
  }

  #offsets({ source, topic, partitions }) {
    const most = Math.max(1, ...partitions.map(({ position, base }) => position - base));
    return [
      h("h3", {}, "Offsets"),
      table(
        `Offsets of ${source}`,
        [
          ["Partition"],
          ["Base", 1],
          ["C", 1],
          ["P", 1],
          ["Batch, speed"],
          ["Records/s", 1],
          ["As of", 1],
          ["Watermark", 1],
          ["Owner"],
        ],
        partitions.map((p) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(p.partition)),
            cell(whole(p.base)),
            cell(whole(p.cutoff)),
            cell(whole(p.position)),
            h(
              "td",
              { class: "wide" },
              shareBar(
                p.cutoff - p.base,
                p.position - p.cutoff,
                most,
                `batch ${p.cutoff - p.base}, speed ${p.position - p.cutoff}`,
              ),
            ),
            cell(rateText(this.#rates.get(`${topic}/${p.partition}`))),
            cell(
              p.as_of === null
                ? "never"
                : `${duration(Math.max(0, Date.parse(this.#status.now) - Date.parse(p.as_of)))} ago`,
            ),
            cell(time(p.watermark)),
            h(
              "td",
              { class: "nowrap" },
              badge(p.owner_alive ? "good" : "bad", p.owner_alive ? "alive" : "away"),
              " ",
              p.owner ?? "none",
            ),
          ),
        ),
      ),
    ];
  }

  #ledger({ source, partitions }) {
    const name = (fate) => fate.replace("_", "-");
    return [
      h("h3", {}, "Ledger"),
      h(
        "p",
        { class: "note" },
        "Every record has exactly one fate: consumed = counted + filtered + duplicate + dead-lettered.",
      ),
      table(
        `Ledger of ${source}`,
        [["Partition"], ["Consumed", 1], ...FATES.map((fate) => [name(fate), 1]), ["Balance"]],
        partitions.map(({ partition, ledger }) => {
          const left = ledger.consumed - FATES.reduce((n, fate) => n + ledger[fate], 0);
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, String(partition)),
            cell(whole(ledger.consumed)),
            FATES.map((fate) =>
              cell(whole(ledger[fate]), {
                class: ledger[fate] > 0 && fate === "dead_lettered" ? "number alarm" : "number",
              }),
            ),
            h(
              "td",
              {},
              badge(
                left === 0 ? "good" : "bad",
                left === 0 ? "balanced" : `${whole(left)} unaccounted for`,
              ),
            ),
          );
        }),
      ),
    ];
  }

  /* --- runs --- */

  #runs(runs, current) {
    const total = (run) => STAGES.reduce((n, stage) => n + Number(run[`${stage}_ms`] ?? 0), 0);
    const most = Math.max(1, ...runs.map(total));
    return h(
      "section",
      { class: "panel" },
      h("h2", {}, "Batch runs"),
      runs.length === 0
        ? h(
            "p",
            { class: "note" },
            "None yet: ",
            h("code", {}, "dovetail-batch run"),
            ", or ",
            h("code", {}, "dovetail-batch schedule"),
            ". Until then the speed layer answers alone.",
          )
        : [
            h(
              "p",
              { class: "legend" },
              STAGES.map((stage) => h("span", {}, h("i", { class: `swatch ${stage}` }), stage)),
            ),
            table(
              "Batch runs",
              [
                ["Run"],
                ["State"],
                ["Started"],
                ["Took", 1],
                ["Records", 1],
                ["Rows changed", 1],
                ["Stage costs"],
                ["Reason"],
              ],
              runs.map((run) =>
                h(
                  "tr",
                  { class: run.run === current ? "current" : null },
                  h("th", { scope: "row" }, String(run.run)),
                  h(
                    "td",
                    {},
                    badge(
                      { published: "good", held: "bad", failed: "bad", running: "warn" }[run.state] ?? "idle",
                      run.run === current ? "served now" : run.state,
                    ),
                  ),
                  h("td", { class: "nowrap" }, time(run.started_at.slice(0, 19) + "Z")),
                  cell(
                    run.finished_at === null
                      ? "–"
                      : duration(Date.parse(run.finished_at) - Date.parse(run.started_at)),
                  ),
                  cell(whole(run.records ?? 0)),
                  cell(whole(run.rows_changed ?? 0)),
                  h("td", { class: "wide" }, this.#stages(run, most)),
                  h(
                    "td",
                    {},
                    [run.reason, run.mismatched > 0 && `${run.mismatched} groups differ`, run.message]
                      .filter(Boolean)
                      .join(": "),
                  ),
                ),
              ),
            ),
          ],
    );
  }

  #stages(run, most) {
    const costs = STAGES.map((stage) => Number(run[`${stage}_ms`] ?? 0));
    if (costs.every((ms) => ms === 0)) return "–";
    const words = STAGES.map((stage, i) => `${stage} ${duration(costs[i])}`).join(", ");
    let x = 0;
    return [
      svg(
        "svg",
        { class: "bar", role: "img", "aria-label": words, width: "100%", height: "10" },
        STAGES.map((stage, i) => {
          const rect = svg("rect", {
            class: stage,
            x: `${(100 * x) / most}%`,
            width: `${(100 * costs[i]) / most}%`,
            height: "10",
          });
          x += costs[i];
          return rect;
        }),
      ),
      h("span", { class: "small" }, words),
    ];
  }
}
