/* The row of large numbers on a view's page. */
import { h, svg } from "./dom.js";
import { exact, groupDigits, percent, short, time } from "./format.js";
import { isAdditive, isCount } from "./query.js";
import { freshness } from "./receipt.js";

function shareLine(batch, speed, value) {
  const whole = Math.abs(Number(value)) || 1;
  const at = (n) => `${Math.min(100, (100 * Math.abs(Number(n))) / whole)}%`;
  return svg(
    "svg",
    {
      class: "bar",
      role: "img",
      "aria-label": `batch ${percent(Math.abs(Number(batch)), whole)}, speed ${percent(Math.abs(Number(speed)), whole)}`,
      width: "100%",
      height: "8",
    },
    svg("rect", { class: "rest", width: "100%", height: "8" }),
    svg("rect", { class: "batch", width: at(batch), height: "8" }),
    svg("rect", { class: "speed", x: at(batch), width: at(speed), height: "8" }),
  );
}

function totalStat(measure, { value, batch, speed }) {
  const shares = batch !== null && value !== null;
  return h(
    "div",
    { class: "stat wide" },
    h("span", { class: "label" }, `${measure.name} in this range`),
    h(
      "span",
      { class: "big", id: "total", title: exact(value) },
      value === null ? (isCount(measure) ? "0" : "none") : short(value),
    ),
    shares
      ? [
          shareLine(batch, speed, value),
          h(
            "span",
            { class: "small" },
            h("i", { class: "swatch batch" }),
            h("span", { id: "total-batch" }, short(batch)),
            " batch + ",
            h("i", { class: "swatch speed" }),
            h("span", { id: "total-speed" }, short(speed)),
            " speed",
          ),
        ]
      : h("span", { class: "small" }, isAdditive(measure) ? "" : "merged from both layers"),
  );
}

export function statsPanel({ chosen, total, chart, receipt }) {
  const windows = chart?.value?.windows ?? [];
  const provisional = windows.filter((window) => window.provisional).length;
  const fresh = freshness(receipt?.freshness_ms);
  return h(
    "div",
    { class: "stats panel" },
    total?.value ? totalStat(chosen.measure, total.value) : null,
    windows.length > 0
      ? h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Windows"),
          h("span", { class: "big" }, groupDigits(String(windows.length))),
          h(
            "span",
            { class: "small" },
            provisional > 0 ? `${groupDigits(String(provisional))} provisional` : "all complete",
          ),
        )
      : null,
    receipt === null
      ? null
      : h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Freshness"),
          h("span", { class: `big ${fresh.level}` }, fresh.text.replace("live, ", "")),
          h(
            "span",
            { class: "small" },
            receipt.run > 0
              ? `batch run ${receipt.run} + speed layer`
              : "speed layer alone, no run yet",
          ),
        ),
    receipt === null
      ? null
      : h(
          "div",
          { class: "stat" },
          h("span", { class: "label" }, "Watermark"),
          h("span", { class: "big time" }, time(receipt.watermark)),
          h("span", { class: "small" }, "UTC, of the events"),
        ),
  );
}
