/* A view's rows as a table: top groups, or windows. Sorted by the server, so that the first rows are
 * the first of all, not of those that happen to be here. */
import { Exact, hasToken } from "./api.js";
import { h, shareBar } from "./dom.js";
import { exact, quoted, short, span, time } from "./format.js";
import {
  endOf,
  difference,
  groupables,
  rowsAddress,
  rowsCommand,
  startOf,
  windowKind,
} from "./query.js";

const LONG = 40; /* characters of a key that may be cut where there is no room */

const isNumeric = (type) => type === "integer" || type === "decimal";

function text(value, type, digits) {
  if (value === null || value === undefined) return h("span", { class: "null" }, "NULL");
  if (type === "timestamp") return time(value);
  const marked = typeof value === "string" ? quoted(value) : null;
  if (marked !== null) return h("span", { class: "null" }, marked);
  return digits ? exact(value) : short(value);
}

function columnsOf({ view, chosen, part }) {
  const windows = chosen.table === "windows" && windowKind(view) !== "none";
  return [
    ...(windows ? [{ name: "window_start", label: "window", kind: "window" }] : []),
    ...chosen.group.map((name) => ({
      ...groupables(view).find((key) => key.name === name),
      kind: "key",
    })),
    ...part.value.measures.map((measure) => ({ ...measure, kind: "measure" })),
  ];
}

/* The first click on numbers and times puts the greatest first, on names the least. */
function nextSort(current, { name, kind }) {
  const [first, second] = kind === "key" ? [name, `-${name}`] : [`-${name}`, name];
  return current === first ? second : first;
}

function head(columns, sort, set) {
  return h(
    "tr",
    {},
    columns.map((column) => {
      const direction =
        sort === column.name ? "ascending" : sort === `-${column.name}` ? "descending" : null;
      return h(
        "th",
        { scope: "col", "aria-sort": direction, class: isNumeric(column.type) ? "number" : null },
        h(
          "button",
          {
            type: "button",
            title: column.expression,
            onclick: () => set({ sort: nextSort(sort, column) }),
          },
          column.label ?? column.name,
          h(
            "span",
            { class: "arrow", "aria-hidden": "true" },
            { ascending: " ▲", descending: " ▼" }[direction] ?? "",
          ),
        ),
      );
    }),
  );
}

function keyCell(row, column, { chosen, set }) {
  const value = row[column.name];
  const others = chosen.filters.filter(({ key }) => key !== column.name);
  return h(
    "th",
    { scope: "row" },
    h(
      "button",
      {
        type: "button",
        class: "link",
        "aria-label": `Only ${column.name} ${value === null ? "NULL" : value}`,
        title: String(value ?? "").length > LONG ? String(value) : null,
        onclick: () =>
          set({
            filters: [
              ...others,
              { key: column.name, value: value === null ? null : String(value) },
            ],
          }),
      },
      text(value, column.type, true),
    ),
  );
}

function measureCell(row, column, { chosen, part }, most) {
  const value = row[column.name];
  const batch = column.name === chosen.measure?.name ? part.value.batchOf(row) : null;
  const bar =
    batch !== null && most > 0 && Number(value) >= 0 && Number(batch) >= 0
      ? shareBar(
          Number(batch),
          Math.max(0, Number(difference(value, batch))),
          most,
          `batch ${exact(batch)}, speed ${exact(difference(value, batch))}`,
        )
      : null;
  return h(
    "td",
    {
      class: isNumeric(column.type) ? "number" : ["timestamp", "integers"].includes(column.type) ? "nowrap" : null,
      "data-column": column.name,
      title: value instanceof Exact || typeof value === "number" ? exact(value) : null,
    },
    text(value, column.type, chosen.digits),
    bar,
  );
}

function body(options, columns) {
  const { chosen, part } = options;
  const values = part.value.rows.map((row) => Math.abs(Number(row[chosen.measure?.name] ?? 0)));
  const most = Math.max(0, ...values);
  return part.value.rows.map((row) =>
    h(
      "tr",
      { class: row.provisional && chosen.table === "windows" ? "provisional" : null },
      columns.map((column) => {
        if (column.kind === "window")
          return h("td", { class: "nowrap" }, span(startOf(row), endOf(row)));
        if (column.kind === "key") return keyCell(row, column, options);
        return measureCell(row, column, options, most);
      }),
    ),
  );
}

function links({ view, part }) {
  const command = rowsCommand(view, part.value.parameters);
  return h(
    "details",
    { class: "links" },
    h("summary", {}, "The same query elsewhere"),
    h(
      "p",
      {},
      "JSON: ",
      hasToken() /* a link cannot bring it along */
        ? h("code", {}, rowsAddress(view, part.value.parameters))
        : h(
            "a",
            { href: rowsAddress(view, part.value.parameters), id: "json-link" },
            rowsAddress(view, part.value.parameters),
          ),
    ),
    command === null ? null : h("p", {}, "CSV in a terminal: ", h("code", {}, command)),
  );
}

/* options: what ViewData.load gave, and { part, many, set, more, save }. */
export function tablePanel(options) {
  const { view, chosen, part, many, set, more, save } = options;
  const choosable =
    chosen.group.length > 0 && !["hopping", "session", "none"].includes(windowKind(view));
  const title =
    chosen.table === "groups"
      ? `Top ${chosen.group.join(", ")}`
      : chosen.group.length > 0
        ? `Windows by ${chosen.group.join(", ")}`
        : "Windows";
  const kinds = [
    ["groups", "Groups"],
    ["windows", "Windows"],
  ];
  return h(
    "section",
    { class: "panel", "aria-labelledby": "table-title" },
    h(
      "div",
      { class: "panel-head" },
      h("h2", { id: "table-title" }, title),
      choosable
        ? h(
            "div",
            { class: "segments", role: "group", "aria-label": "Rows" },
            kinds.map(([kind, label]) =>
              h(
                "button",
                {
                  type: "button",
                  "aria-pressed": String(chosen.table === kind),
                  onclick: () => set({ table: kind, sort: null }),
                },
                label,
              ),
            ),
          )
        : null,
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(chosen.digits),
          onclick: () => set({ digits: chosen.digits ? null : "all" }),
        },
        "All digits",
      ),
      h("button", { type: "button", onclick: save }, "Save CSV"),
    ),
    part.problem !== null
      ? h("p", { class: "problem" }, part.problem.message)
      : content(options, many, more),
  );
}

function content(options, many, more) {
  const { part, chosen, set } = options;
  if (part.value.rows.length === 0) return h("p", { class: "note" }, "No rows in this range.");
  const columns = columnsOf(options);
  return [
    part.value.note === null
      ? null
      : h("p", { class: "problem" }, `Other measures are left out: ${part.value.note}`),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" },
      h(
        "table",
        { id: "rows" },
        h("thead", {}, head(columns, chosen.sort, set)),
        h("tbody", {}, body(options, columns)),
      ),
    ),
    part.value.rows.length >= 20
      ? h(
          "p",
          {},
          h("button", { type: "button", onclick: more }, many ? "Fewer rows" : "More rows"),
        )
      : null,
    links(options),
  ];
}

/* As `dovetail query --format csv` writes it: NULL is empty, an empty text is "". */
function csvField(value) {
  if (value === null || value === undefined) return "";
  const field = Array.isArray(value) ? `{${value.join(",")}}` : String(value);
  return field === "" || /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}

export function csvOf(rows) {
  const names = Object.keys(rows[0] ?? {});
  return [names.join(","), ...rows.map((row) => names.map((name) => csvField(row[name])).join(","))]
    .map((line) => `${line}\r\n`)
    .join("");
}

export function saveCsv({ view, table }) {
  if (!table.value) return;
  const address = URL.createObjectURL(new Blob([csvOf(table.value.rows)], { type: "text/csv" }));
  h("a", { href: address, download: `${view.view}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
