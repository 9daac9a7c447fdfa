/* What can be chosen on a view's page. Each choice goes into the address (set), nowhere else.
 *
 * options: shown (what ViewData.load gave), state (of the address), chosen (the two resolved), set(changes),
 * zoom(fromMs, toMs). */
import { choice, h } from "./dom.js";
import { keyText } from "./format.js";
import { chartable, granularities, groupables, ranges, windowKind } from "./query.js";

function setRange({ shown, set, zoom }, range) {
  if (range !== "custom") {
    set({ range, from: null, to: null, granularity: null });
    return;
  }
  const windows = shown.chart?.value?.windows ?? [];
  if (windows.length > 0) zoom(windows[0].start, windows.at(-1).end);
}

function bound({ chosen, set }, label, name) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: name }, `${label} (UTC)`),
    h("input", {
      id: name,
      type: "datetime-local",
      value: chosen[name]?.slice(0, 16) ?? "",
      onchange: (event) => {
        const { value } = event.target;
        set({ [name]: value === "" ? null : `${value}:00Z` });
      },
    }),
  );
}

export function controlsForm(options) {
  const { chosen, set } = options;
  const { view } = options.shown;
  const groups = [
    ...groupables(view).map(({ name }) => [name, name]),
    ...(view.keys.length > 1 ? [[view.keys.map(({ name }) => name).join(","), "all keys"]] : []),
  ];
  const grouped = chosen.group.join(",");
  if (grouped !== "" && !groups.some(([value]) => value === grouped))
    groups.push([grouped, chosen.group.join(", ")]);
  const steps = granularities(view);
  return h(
    "form",
    {
      class: "controls",
      "aria-label": "What to show",
      onsubmit: (event) => event.preventDefault(),
    },
    chosen.measure === null
      ? null
      : choice(
          "Measure",
          "measure",
          chartable(view).map(({ name }) => [name, name]),
          chosen.measure.name,
          (measure) => set({ measure, sort: null }),
        ),
    groups.length === 0
      ? null
      : [
          windowKind(view) === "none"
            ? null
            : choice(
                "Chart",
                "chart-kind",
                [
                  ["total", "total"],
                  ["groups", "top groups"],
                ],
                chosen.chart,
                (chart) => set({ chart }),
              ),
          choice("Group by", "group", groups, grouped, (group) =>
            set({ group, sort: null }),
          ),
        ],
    windowKind(view) === "none"
      ? null
      : choice(
          "Range",
          "range",
          [...ranges(view), ["custom", "from … to …"]],
          chosen.range,
          (range) => setRange(options, range),
        ),
    chosen.range === "custom" ? [bound(options, "From", "from"), bound(options, "To", "to")] : null,
    steps.length < 2
      ? null
      : choice(
          "Granularity",
          "granularity",
          steps.map((step) => [step, step === "" ? view.window.size : step]),
          chosen.granularity,
          (granularity) => set({ granularity }),
        ),
  );
}

export function filtersForm({ shown, state, chosen, set }) {
  const { view } = shown;
  const names = groupables(view).map(({ name }) => name);
  if (names.length === 0) return null;
  const values = (shown.table?.value?.rows ?? []).map((row) => row[names[0]]);
  const without = (filter) => state.filters.filter(({ key }) => key !== filter.key);
  return h(
    "div",
    { class: "filters" },
    h(
      "form",
      {
        "aria-label": "Add a filter",
        onsubmit: (event) => {
          event.preventDefault();
          const key = event.target.querySelector("select").value;
          const input = event.target.querySelector("input");
          set({ filters: [...without({ key }), { key, value: input.value }] });
          input.value = "";
        },
      },
      h("label", { for: "filter-key" }, "Only"),
      h(
        "select",
        { id: "filter-key", "data-keep": true },
        names.map((name) => h("option", { value: name }, name)),
      ),
      h("label", { for: "filter-value" }, "="),
      h("input", {
        id: "filter-value",
        "data-keep": true,
        list: "filter-values",
        autocomplete: "off",
        size: "12",
        spellcheck: "false",
      }),
      h(
        "datalist",
        { id: "filter-values" },
        values
          .filter((value) => value !== null && value !== undefined)
          .map((value) => h("option", { value: String(value) })),
      ),
      h("button", { type: "submit" }, "Filter"),
    ),
    chosen.filters.map((filter) =>
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-label": `Remove the filter ${filter.key}`,
          onclick: () => set({ filters: without(filter) }),
        },
        `${filter.key} ${filter.value === null ? "is NULL" : `= ${keyText(filter.value)}`}`,
        h("span", { "aria-hidden": "true" }, " ×"),
      ),
    ),
  );
}
