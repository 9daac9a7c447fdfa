/* The receipt of an answer, in words. */
import { h, shareBar } from "./dom.js";
import { duration, groupDigits, time } from "./format.js";

const whole = (n) => groupDigits(String(n));

/* How fresh an answer is: what to say, and how urgent it is. */
export function freshness(ms) {
  if (ms === null || ms === undefined) return { level: "idle", text: "freshness not known" };
  if (ms < 5000) return { level: "good", text: `live, ${duration(ms)} behind` };
  if (ms < 60000) return { level: "warn", text: `${duration(ms)} behind` };
  return { level: "bad", text: `${duration(ms)} behind` };
}

/* Of all sources; null where it is not known of one of them. */
export function leastFresh(sources) {
  const ages = sources.map(({ freshness_ms }) => freshness_ms);
  return ages.length > 0 && !ages.includes(null) ? Math.max(...ages) : null;
}

export function badge(level, text) {
  return h("span", { class: `badge ${level}` }, text);
}

function partitions(receipt) {
  return Object.entries(receipt.positions)
    .flatMap(([topic, positions]) =>
      positions.map((position, partition) => ({
        topic,
        partition,
        position,
        cutoff: receipt.cutoffs[topic]?.[partition] ?? null,
      })),
    )
    .filter(({ position }) => position !== null)
    .concat(
      Object.entries(receipt.imported ?? {}).map(([topic, count]) => ({
        topic,
        partition: "imported",
        position: count,
        cutoff: count,
      })),
    );
}

function offsetsTable(rows) {
  const most = Math.max(1, ...rows.map(({ position }) => position));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Offsets of the receipt" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Partition", "C", "P", "P − C", "Share of each layer"].map((text, i) =>
            h("th", { scope: "col", class: i >= 1 && i <= 3 ? "number" : null }, text),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(({ topic, partition, cutoff, position }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, `${topic}/${partition}`),
            h("td", { class: "number" }, whole(cutoff)),
            h("td", { class: "number" }, whole(position)),
            h("td", { class: "number" }, whole(position - cutoff)),
            h(
              "td",
              { class: "wide" },
              shareBar(
                cutoff,
                position - cutoff,
                most,
                `batch ${cutoff}, speed ${position - cutoff} offsets`,
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

export function receiptPanel(view, receipt) {
  const rows = partitions(receipt);
  const added = rows.reduce((sum, { position, cutoff }) => sum + position - cutoff, 0);
  const fresh = freshness(receipt.freshness_ms);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "receipt-title" },
    h("h2", { id: "receipt-title" }, "Receipt"),
    h(
      "p",
      {},
      receipt.run > 0
        ? [
            "Batch run ",
            h("b", {}, String(receipt.run)),
            " counted every record below ",
            h("b", {}, "C"),
            "; ",
          ]
        : "No batch run has been published yet; ",
      "the speed layer added ",
      h("b", {}, added === 0 ? "nothing since" : `the ${whole(added)} offsets from C up to P`),
      ". Together they are every record below ",
      h("b", {}, "P"),
      ", each exactly once.",
    ),
    rows.length > 0 ? offsetsTable(rows) : null,
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "Freshness"),
      h(
        "dd",
        {},
        receipt.freshness_ms === null
          ? "Not known: there is a partition of which nobody has said how far it has been read."
          : [
              "Every record that was in the log ",
              h("b", {}, `${duration(receipt.freshness_ms)} ago`),
              " is in this answer. ",
              fresh.level === "good"
                ? null
                : badge(
                    fresh.level,
                    fresh.level === "warn"
                      ? "behind"
                      : "the speed layer is not keeping up, or not running",
                  ),
            ],
      ),
      h("dt", {}, "Watermark"),
      h(
        "dd",
        {},
        receipt.watermark === null
          ? "No event has been seen."
          : [
              h("b", {}, `${time(receipt.watermark)} UTC`),
              ": windows that end later are provisional, more may come.",
            ],
      ),
    ),
    h(
      "p",
      { class: "note" },
      "Anyone can recompute it: ",
      h("code", {}, `dovetail verify ${view.view}`),
    ),
  );
}
