/* The chart: the only file that knows uPlot (a classic script, window.uPlot).
 *
 * Bars show one value per window, the batch layer's share below and the speed layer's above, or one
 * colour where shares are not known; lines show several series, dashed where the speed layer takes
 * part. The time from the first provisional window on is hatched. Everything is drawn in the colours
 * of the style sheet. */
import { axisTimes, compact, short, span } from "./format.js";

const HEIGHT = 300;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function seriesColour(index) {
  return colour(`series-${index + 1}`);
}

function hatch(context, stroke) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const t = tile.getContext("2d");
  t.strokeStyle = stroke;
  t.lineWidth = 1;
  for (const x of [-8, 0, 8]) {
    t.beginPath();
    t.moveTo(x, 8);
    t.lineTo(x + 8, 0);
    t.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/* data: { kind: "bars" | "lines", windows: [{ start, end, provisional }], series: [{ label, values,
 * batch (null: shares unknown) }] }. Windows are in the order of time. */
export class Chart {
  #box;
  #readout;
  #onRange;
  #plot = null;
  #shape = "";
  #data = null;
  #index = null;

  /* onRange(fromMs, toMs): a person has dragged over a stretch of time. */
  constructor(box, readout, onRange) {
    this.#box = box;
    this.#readout = readout;
    this.#onRange = onRange;
    new ResizeObserver(() => this.#resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#renew());
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("blur", () => this.#point(null));
  }

  set(data) {
    const shape = `${data.kind} ${data.series.length}`;
    this.#data = data;
    if (this.#index !== null && this.#index >= data.windows.length) this.#index = null;
    if (this.#plot === null || shape !== this.#shape) {
      this.#shape = shape;
      this.#renew();
    } else {
      this.#plot.setData(this.#columns());
    }
    this.#box.setAttribute("aria-label", this.#summary());
    this.#tell();
  }

  destroy() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  /* --- data --- */

  #columns() {
    const { kind, windows, series } = this.#data;
    const middle = windows.map(({ start, end }) => (start + end) / 2000);
    if (kind === "bars") return [middle, series[0].values];
    return [middle, ...series.flatMap(({ values, batch }) => this.#split(values, batch))];
  }

  /* Solid where batch has all of it, dashed where the speed layer has a part. A stretch of a line is
   * dashed if either end is, and the two lines meet in a point. */
  #split(values, batch) {
    if (batch === null) return [values, values.map(() => null)];
    const mixed = values.map((value, i) => value !== null && value !== (batch[i] ?? 0));
    const solid = values.map((value, i) => (mixed[i] ? null : value));
    const dashed = values.map((value, i) =>
      mixed[i] || mixed[i - 1] || mixed[i + 1] ? value : null,
    );
    return [solid, dashed];
  }

  #summary() {
    const { windows, series } = this.#data;
    if (windows.length === 0) return "Chart without windows";
    const times = span(windows[0].start, windows.at(-1).end);
    return (
      `Chart of ${series.map(({ label }) => label).join(", ")} over ${windows.length} windows, ${times} UTC. ` +
      "The arrow keys read it window by window."
    );
  }

  /* --- drawing --- */

  #renew() {
    this.#plot?.destroy();
    this.#plot = null;
    if (this.#data === null) return;
    const plot = new window.uPlot(this.#options(), this.#columns(), this.#box);
    this.#plot = plot;
  }

  #resize() {
    const width = Math.floor(this.#box.clientWidth);
    if (this.#plot !== null && width > 0 && width !== this.#plot.width)
      this.#plot.setSize({ width, height: HEIGHT });
  }

  #series() {
    const { kind, series } = this.#data;
    if (kind === "bars")
      return [
        {},
        {
          label: series[0].label,
          stroke: colour("batch"),
          paths: () => null,
          points: { show: false },
        },
      ];
    const few = this.#data.windows.length <= 100;
    return [
      {},
      ...series.flatMap(({ label, batch }, i) => {
        const stroke = series.length === 1 ? colour("merged") : seriesColour(i);
        const line = {
          label,
          stroke,
          width: 2,
          spanGaps: batch === null /* nothing is split, and not every window has a value */,
          points: { show: few, size: 5, fill: stroke },
        };
        return [
          line,
          {
            ...line,
            dash: [5, 4],
            points: { show: few, size: 5, fill: colour("surface"), width: 1.5 },
          },
        ];
      }),
    ];
  }

  #options() {
    const text = colour("muted");
    const line = colour("line");
    const axis = {
      stroke: text,
      font: "12px system-ui, sans-serif",
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1, size: 4 },
    };
    return {
      width: Math.max(200, Math.floor(this.#box.clientWidth)),
      height: HEIGHT,
      legend: { show: false },
      series: this.#series(),
      scales: {
        x: { time: true, range: () => this.#xRange() },
        y: { range: (plot, low, high) => this.#yRange(low, high) },
      },
      tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 44,
          gap: 4,
          space: 70,
          values: (plot, splits, index, space, step) => axisTimes(splits, step),
        },
        { ...axis, size: 56, gap: 4, values: (plot, splits) => splits.map(compact) },
      ],
      cursor: {
        y: false,
        points: { show: this.#data.kind === "lines" },
        drag: { x: true, y: false, setScale: false },
      },
      hooks: {
        drawClear: [(plot) => this.#drawProvisional(plot)],
        draw: [(plot) => this.#draw(plot)],
        setCursor: [(plot) => this.#hover(plot)],
        setSelect: [(plot) => this.#select(plot)],
      },
    };
  }

  #xRange() {
    const { windows } = this.#data;
    if (windows.length === 0) return [0, 1];
    return [windows[0].start / 1000, Math.max(...windows.map(({ end }) => end)) / 1000];
  }

  #yRange(low, high) {
    if (low === null || high === null) return [0, 1];
    if (this.#data.kind === "bars") {
      low = Math.min(0, low, ...(this.#data.series[0].batch ?? []));
      high = Math.max(0, high, ...(this.#data.series[0].batch ?? []));
    }
    if (low === high) return low === 0 ? [0, 1] : [Math.min(0, 2 * low), Math.max(0, 2 * high)];
    return window.uPlot.rangeNum(low, high, {
      min: { pad: 0.1, soft: 0, mode: 1 },
      max: { pad: 0.1, soft: 0, mode: 1 },
    });
  }

  #drawProvisional(plot) {
    const first = this.#data.windows.find(({ provisional }) => provisional);
    if (first === undefined) return;
    const { ctx, bbox } = plot;
    const left = Math.max(bbox.left, plot.valToPos(first.start / 1000, "x", true));
    ctx.save();
    ctx.fillStyle = hatch(ctx, colour("hatch"));
    ctx.fillRect(left, bbox.top, bbox.left + bbox.width - left, bbox.height);
    ctx.restore();
  }

  #draw(plot) {
    if (this.#data.kind === "bars") this.#drawBars(plot);
  }

  #drawBars(plot) {
    const { ctx, bbox } = plot;
    const {
      windows,
      series: [{ values, batch }],
    } = this.#data;
    const zero = plot.valToPos(0, "y", true);
    const colours = [colour("batch"), colour(batch === null ? "merged" : "speed")];
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    windows.forEach(({ start, end }, i) => {
      if (values[i] === null || values[i] === undefined) return;
      const left = plot.valToPos(start / 1000, "x", true);
      const right = plot.valToPos(end / 1000, "x", true);
      const gap = Math.min(3, (right - left) * 0.15);
      const width = Math.max(1, right - left - gap);
      const middle = plot.valToPos(batch?.[i] ?? 0, "y", true);
      const top = plot.valToPos(values[i], "y", true);
      const box = (colour_, from, to) => {
        if (from === to) return;
        ctx.fillStyle = colour_;
        ctx.fillRect(left + gap / 2, Math.min(from, to), width, Math.max(1, Math.abs(to - from)));
      };
      box(colours[0], zero, middle);
      box(colours[1], middle, top);
      if (i === this.#index) {
        ctx.strokeStyle = colour("text");
        ctx.lineWidth = 2;
        ctx.strokeRect(
          left + gap / 2,
          Math.min(zero, top, middle),
          width,
          Math.max(2, Math.abs(top - zero)),
        );
      }
    });
    ctx.restore();
  }

  /* --- reading --- */

  #hover(plot) {
    const index = plot.cursor.idx ?? null;
    if (plot.cursor.left < 0 || index === this.#index) return;
    this.#index = index;
    if (this.#data.kind === "bars") plot.redraw(false);
    this.#tell();
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (width < 8) return;
    const from = plot.posToVal(left, "x") * 1000;
    const to = plot.posToVal(left + width, "x") * 1000;
    const inside = this.#data.windows.filter(({ start, end }) => end > from && start < to);
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (inside.length > 0) this.#onRange(inside[0].start, inside.at(-1).end);
  }

  #key(event) {
    const last = this.#data === null ? -1 : this.#data.windows.length - 1;
    const at = this.#index ?? last + 1;
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.#point(null);
    if (next === undefined || last < 0) return;
    event.preventDefault();
    this.#point(Math.max(0, Math.min(last, next)));
  }

  #point(index) {
    const plot = this.#plot;
    if (plot === null) return;
    if (index === null) {
      this.#index = null;
      plot.setCursor({ left: -10, top: -10 });
    } else {
      plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: 10 });
      this.#index = index;
    }
    plot.redraw(false);
    this.#tell();
  }

  /* The window that is pointed at, else the last one. */
  #tell() {
    const { windows, series } = this.#data;
    const index = this.#index ?? windows.length - 1;
    if (index < 0) {
      this.#readout(null);
      return;
    }
    this.#readout({
      ...windows[index],
      pointed: this.#index !== null,
      values: series.map(({ label, shown, values, batch }) => ({
        label,
        value: shown?.[index] ?? values[index],
        text: short(shown?.[index] ?? values[index]),
        batch: batch === null ? null : (batch[index] ?? 0),
      })),
    });
  }
}
