/* Sales, made up: the same records every time. */
export const hostile = ['<img src=x onerror="throw 1">', "a&b=c?d#e%20f", "'; DROP TABLE x; --"];

const SHOPS = ["north", "north", "north", "south", "south", "east", ...hostile, "", null];
const HOUR_MS = 3600000;
const START_MS = Date.UTC(2026, 2, 1);

export const sources = [
  {
    source: "sales",
    partitions: 3,
    event_time: { field: "at", format: "rfc3339" },
    fields: {
      at: "timestamp",
      amount: "decimal",
      units: { type: "integer", nullable: true },
      shop: { type: "string", nullable: true },
    },
  },
];

const measures = {
  orders: "count(*)",
  revenue: "sum(amount)",
  units: "sum(units)",
  mean: "avg(amount)",
  best: "max(units)",
  newest: "max(at)",
};
const few = { orders: "count(*)", mean: "avg(amount)" };

export const views = [
  {
    view: "sales_by_shop",
    description: "Sales of each hour, by shop.",
    source: "sales",
    group_by: ["shop"],
    window: { type: "tumbling", size: "1h" },
    measures,
  },
  {
    view: "sales_total",
    source: "sales",
    group_by: [],
    window: { type: "tumbling", size: "1d" },
    measures,
  },
  {
    view: "moving",
    source: "sales",
    group_by: ["shop"],
    window: { type: "hopping", size: "6h", slide: "1h" },
    measures: few,
  },
  {
    view: "visits",
    source: "sales",
    group_by: ["shop"],
    window: { type: "session", gap: "30m" },
    measures: few,
  },
  {
    view: "ever",
    source: "sales",
    group_by: ["shop", { name: "large", expr: "amount > 50" }],
    window: { type: "none" },
    measures: few,
  },
  {
    view: "local_days",
    source: "sales",
    group_by: ["shop"],
    window: { type: "tumbling", size: "1d", timezone: "America/New_York" },
    measures: few,
  },
];

/* In the order of time, three minutes apart; the shop with the empty name never tells its units. */
export function records(from, count) {
  return Array.from({ length: count }, (_, i) => {
    const n = from + i;
    const shop = SHOPS[(n * 7) % SHOPS.length];
    const amount =
      n % 10 === 0
        ? "123456789012345678.05"
        : `${(n * 37) % 100}.${String((n * 13) % 100).padStart(2, "0")}`;
    const units = shop === "" ? "null" : String((n * 5) % 17);
    const at = new Date(START_MS + (n * HOUR_MS) / 20).toISOString();
    return `{"at":"${at}","amount":${amount},"units":${units},"shop":${JSON.stringify(shop)}}`;
  });
}
