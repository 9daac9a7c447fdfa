/* The dashboard in Chromium on a real deployment: run by tests/browser/run.sh. The tests build on each
 * other: records only ever become more. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Browser } from "./browser.mjs";
import { Deployment, sleep, until } from "./deployment.mjs";
import { hostile, records, sources, views } from "./fixture.mjs";

let deployment;
let browser;
let page;

before(async () => {
  deployment = await Deployment.create(sources, views);
  deployment.start("dovetail-speed");
  await deployment.serve();
  browser = await Browser.open();
});

after(async () => {
  await browser?.close();
  await deployment?.close();
});

afterEach(async (context) => {
  if (page) {
    if (context.error) await browser.screenshot(page, "failed", { fullPage: true }).catch(() => {});
    await page.close();
  }
  page = null;
  browser.outage = false;
  const { faults, elsewhere } = browser;
  browser.faults = [];
  browser.elsewhere = [];
  assert.deepEqual(faults, [], "the browser reports no fault");
  assert.deepEqual(elsewhere, [], "no request goes elsewhere");
});

async function open(hash = "#/") {
  page = await browser.page(`${deployment.url}/${hash}`);
  return page;
}

const text = (selector) => page.locator(selector).first().innerText();
const plain = (shown) => shown.replaceAll(",", "");
const shows = (selector, expected) =>
  until(
    `${selector} shows ${expected}`,
    async () => plain(await text(selector)) === String(expected),
  );
const exactText = (json, name) =>
  [...json.matchAll(new RegExp(`"${name}":\\s*([^,}]+)`, "g"))].map(([, value]) => value);

async function produce(from, count) {
  await deployment.produce("sales", records(from, count));
  await deployment.rows("sales_total", { at_least: deployment.offsets, limit: 1 });
}

/* --- before there is anything --- */

test("the files come with their types, a strict policy and tags that save a second transfer", async () => {
  const types = {
    "/": "text/html",
    "/dashboard/main.js": "text/javascript",
    "/dashboard/style.css": "text/css",
    "/dashboard/icon.svg": "image/svg+xml",
    "/dashboard/vendor/LICENSE.uPlot": "text/plain",
  };
  for (const [path, type] of Object.entries(types)) {
    const first = await fetch(deployment.url + path);
    const policy = first.headers.get("content-security-policy");
    assert.equal(first.status, 200);
    assert.match(first.headers.get("content-type"), new RegExp(`^${type.replace("+", "\\+")}`));
    assert.match(policy, /^default-src 'none'; script-src 'self';/);
    assert.doesNotMatch(policy, /unsafe|\*|http/);
    assert.equal(first.headers.get("x-content-type-options"), "nosniff");
    assert.equal(first.headers.get("referrer-policy"), "no-referrer");
    const tag = first.headers.get("etag");
    for (const sent of [tag, `"other", W/${tag}`, "*"]) {
      const second = await fetch(deployment.url + path, { headers: { "if-none-match": sent } });
      assert.equal(second.status, 304, sent);
      assert.equal(await second.text(), "");
    }
    assert.equal(
      (await fetch(deployment.url + path, { headers: { "if-none-match": '"other"' } })).status,
      200,
    );
    assert.equal((await fetch(deployment.url + path, { method: "HEAD" })).headers.get("etag"), tag);
  }
  assert.equal((await fetch(`${deployment.url}/dashboard/nothing.js`)).status, 404);
  assert.equal((await fetch(`${deployment.url}/dashboard/vendor/..%2fmain.js`)).status, 404);
});

test("an empty deployment says what is missing", async () => {
  await open();
  await page.getByRole("link", { name: "sales_by_shop" }).waitFor();
  assert.equal(await page.locator(".card").count(), views.length);
  await until(
    "the card says so",
    async () => (await text(".card figcaption")) === "No records yet.",
  );
  await browser.screenshot(page, "overview-empty");
  await page.getByRole("link", { name: "sales_by_shop" }).click();
  await page.getByRole("heading", { name: "No records yet" }).waitFor();
  await browser.screenshot(page, "view-empty", { fullPage: true });
});

/* --- live --- */

test("records appear without a reload, and the numbers are the API's", async () => {
  await open("#/views/sales_by_shop?range=all");
  await page.getByRole("heading", { name: "No records yet" }).waitFor();
  await page.evaluate(() => {
    window.notReloaded = true;
  });
  await produce(0, 500);
  await shows("#total", 500);
  await produce(500, 250);
  await shows("#total", 750);
  assert.equal(await page.evaluate(() => window.notReloaded), true);
  const { rows } = await deployment.rows("sales_by_shop", {
    group_by: "shop",
    granularity: "all",
    order: "-orders",
  });
  await until("the table is the API's answer", async () => {
    const shown = await page.locator("td[data-column=orders]").allInnerTexts();
    return (
      JSON.stringify(shown.map((cell) => Number(plain(cell)))) ===
      JSON.stringify(rows.map(({ orders }) => orders))
    );
  });
  await page.getByText("no batch run has been published yet", { exact: false }).waitFor();
});

test("batch and speed shares are those of the two layers, at every moment of a run", async () => {
  await open("#/views/sales_by_shop?range=all");
  await shows("#total", 750);
  await shows("#total-batch", 0);
  const run = deployment.run("dovetail-batch", "run");
  const seen = [];
  let finished = false;
  run.then(
    () => (finished = true),
    () => (finished = true),
  );
  while (!finished) {
    seen.push(
      await page.evaluate(() =>
        ["total", "total-batch", "total-speed"].map((id) =>
          Number(document.getElementById(id).innerText.replaceAll(",", "")),
        ),
      ),
    );
    await sleep(20);
  }
  await run;
  for (const [total, batch, speed] of seen) assert.deepEqual([total, batch + speed], [750, 750]);
  await shows("#total-batch", 750);
  await shows("#total-speed", 0);
  await produce(750, 150);
  await shows("#total-speed", 150);
  const all = { group_by: "", granularity: "all", measures: "orders" };
  const merged = await deployment.rows("sales_by_shop", all);
  const batch = await deployment.rows("sales_by_shop", { ...all, layer: "batch" });
  const speed = await deployment.rows("sales_by_shop", { ...all, layer: "speed" });
  await shows("#total", merged.rows[0].orders);
  await shows("#total-batch", batch.rows[0].orders);
  await shows("#total-speed", speed.rows[0].orders);
  assert.match(
    await text("[aria-labelledby=receipt-title]"),
    /Batch run 1 counted every record below C/,
  );
  await browser.screenshot(page, "view", { fullPage: true });
});

test("the receipt has C and P of every partition", async () => {
  const { receipt } = await deployment.rows("sales_by_shop", { limit: 1 });
  await open("#/views/sales_by_shop");
  const [topic] = Object.keys(receipt.positions);
  await page.locator("[aria-labelledby=receipt-title] tbody tr").first().waitFor();
  const shown = await page.locator("[aria-labelledby=receipt-title] tbody tr").allInnerTexts();
  shown.forEach((line, p) => {
    const cells = line.split(/\s+/).filter(Boolean).map(plain);
    assert.deepEqual(cells.slice(0, 4), [
      `${topic}/${p}`,
      String(receipt.cutoffs[topic][p]),
      String(receipt.positions[topic][p]),
      String(receipt.positions[topic][p] - receipt.cutoffs[topic][p]),
    ]);
  });
  assert.equal(shown.length, receipt.positions[topic].length);
});

test("sums keep every digit, beyond what a double holds", async () => {
  const response = await fetch(
    `${deployment.url}/v1/views/sales_by_shop/rows?group_by=shop&granularity=all&order=-orders`,
  );
  const expected = exactText(await response.text(), "revenue");
  assert.ok(
    expected.some((digits) => digits.replace(/[-.]/g, "").length > 17),
    "the fixture has long sums",
  );
  await open("#/views/sales_by_shop?range=all&digits=all");
  await until("the digits are shown", async () => {
    const shown = await page.locator("td[data-column=revenue]").allInnerTexts();
    return JSON.stringify(shown.map(plain)) === JSON.stringify(expected);
  });
});

test("a measure that does not add up is shown merged, and says so", async () => {
  await open("#/views/sales_by_shop?range=all&measure=mean");
  await page
    .getByText("mean does not add up from parts, so only the merged value is shown.")
    .waitFor();
  assert.equal(await page.locator("#total-batch").count(), 0);
  const {
    rows: [{ mean }],
  } = await deployment.rows("sales_by_shop", {
    group_by: "",
    granularity: "all",
    measures: "mean",
  });
  const shown = Number(plain(await text("#total")));
  assert.ok(Math.abs(shown - mean) <= Math.abs(mean) / 100, `${shown} is about ${mean}`);
});

test("provisional windows are marked in the table and in the readout", async () => {
  await open("#/views/sales_by_shop?range=all&table=windows&granularity=1h");
  const { rows } = await deployment.rows("sales_by_shop", {
    group_by: "shop",
    order: "-window_start",
    limit: 20,
  });
  await until(
    "rows are marked",
    async () =>
      (await page.locator("#rows tbody tr.provisional").count()) ===
      rows.filter(({ provisional }) => provisional).length,
  );
  assert.ok(rows[0].provisional);
  assert.match(await text("#readout"), /provisional/);
  await page.locator("#chart").focus();
  await page.keyboard.press("Home");
  await until(
    "the first window is read",
    async () => !(await text("#readout")).includes("provisional"),
  );
});

test("texts of records are texts, whatever is in them", async () => {
  await open("#/views/sales_by_shop?range=all&chart=groups");
  for (const shop of hostile)
    await page.getByRole("button", { name: `Only shop ${shop}`, exact: true }).waitFor();
  await page.getByRole("button", { name: `Only shop ${hostile[0]}`, exact: true }).click();
  await page.getByRole("button", { name: "Remove the filter shop" }).waitFor();
  const {
    rows: [{ orders }],
  } = await deployment.rows("sales_by_shop", {
    shop: hostile[0],
    group_by: "",
    granularity: "all",
    measures: "orders",
  });
  await shows("#total", orders);
  assert.equal(await page.locator("main img, main script").count(), 0);
});

test("NULL and the empty text are groups that can be chosen", async () => {
  for (const [filter, parameters] of [
    ["null.shop=1", { "shop.is": "null" }],
    ["is.shop=", { shop: "" }],
  ]) {
    const {
      rows: [{ orders }],
    } = await deployment.rows("sales_by_shop", {
      ...parameters,
      group_by: "",
      granularity: "all",
      measures: "orders",
    });
    await open(`#/views/sales_by_shop?range=all&${filter}`);
    await shows("#total", orders);
    await page.close();
  }
});

/* Of the chart: neither grid nor text. */
function colouredPixels() {
  return page.locator("#chart canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
      if (
        Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) >
        60
      )
        count++;
    return count;
  });
}

test("every kind of window has its page", async () => {
  const pages = {
    sales_total: "#chart",
    moving: "#chart",
    visits: "#chart",
    ever: "#rows",
    local_days: "#chart",
  };
  for (const [view, element] of Object.entries(pages)) {
    for (const chart of ["total", "groups"]) {
      await open(`#/views/${view}?range=all&chart=${chart}`);
      await page.locator(element).waitFor();
      await page.locator("#rows tbody tr").first().waitFor();
      assert.equal(await page.locator(".problem, .banner").count(), 0, `${view} ${chart}`);
      if (element === "#chart")
        await until(`${view} ${chart} is drawn`, async () => (await colouredPixels()) > 300);
      await browser.screenshot(page, `view-${view}-${chart}`);
      await page.close();
    }
  }
  page = null;
});

test("every granularity and range that is offered is answered", async () => {
  for (const view of ["sales_by_shop", "local_days", "moving", "visits"]) {
    await open(`#/views/${view}`);
    await page.locator("#chart").waitFor();
    for (const id of ["granularity", "range"]) {
      const values = await page
        .locator(`#${id} option`)
        .evaluateAll((options) => options.map((option) => option.value));
      for (const value of values) {
        const answered = page.waitForResponse((response) => response.url().includes("/rows?"));
        await page.locator(`#${id}`).selectOption(value);
        await answered;
        await page.locator("main:not(:has(.asking))").waitFor();
        assert.equal(await page.locator(".problem, .banner").count(), 0, `${view} ${id}=${value}`);
      }
    }
    await page.close();
  }
  page = null;
});

/* --- people --- */

test("everything can be reached and done by keyboard", async () => {
  await open();
  await page.getByRole("link", { name: "sales_by_shop" }).waitFor();
  const focused = () =>
    page.evaluate(() => document.activeElement.innerText || document.activeElement.id);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  for (let i = 0; i < 12 && (await focused()) !== "sales_by_shop"; i++)
    await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("#chart").waitFor();
  for (let i = 0; i < 12 && (await focused()) !== "Filter"; i++) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement.id)) === "filter-value")
      await page.keyboard.type("north");
  }
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Remove the filter shop" }).waitFor();
  await page.locator("#chart").focus();
  await page.keyboard.press("End");
  const last = await text("#readout");
  await page.keyboard.press("ArrowLeft");
  assert.notEqual(await text("#readout"), last);
  await sleep(2000);
  assert.equal(
    await page.evaluate(() => document.activeElement.id),
    "chart",
    "a refresh leaves the focus alone",
  );
  await page.getByRole("button", { name: "units" }).focus();
  await page.keyboard.press("Enter");
  await page.locator("th[aria-sort=descending] button", { hasText: "units" }).waitFor();
  await page.keyboard.press("Enter");
  await page.locator("th[aria-sort=ascending] button", { hasText: "units" }).waitFor();
  assert.match(await focused(), /^units/);
});

test("sorting is the server's, over all groups, and NULL comes last", async () => {
  await open("#/views/sales_by_shop?range=all&sort=-best");
  const { rows } = await deployment.rows("sales_by_shop", {
    group_by: "shop",
    granularity: "all",
    order: "-best",
  });
  const values = [
    ...rows.filter(({ best }) => best !== null),
    ...rows.filter(({ best }) => best === null),
  ].map(({ best }) => String(best ?? "NULL"));
  assert.ok(values.includes("NULL"));
  await until(
    "the order is right",
    async () =>
      JSON.stringify((await page.locator("td[data-column=best]").allInnerTexts()).map(plain)) ===
      JSON.stringify(values),
  );
});

test("choices are in the address: reload, back, links", async () => {
  await open("#/views/sales_by_shop?range=all");
  await page.locator("#chart").waitFor();
  await page.locator("#measure").selectOption("units");
  await page.waitForURL(/measure=units/);
  await page.locator("#chart-kind").selectOption("groups");
  await page.waitForURL(/chart=groups/);
  await page.reload();
  await page.locator("#chart").waitFor();
  assert.equal(await page.locator("#measure").inputValue(), "units");
  assert.equal(await page.locator("#chart-kind").inputValue(), "groups");
  await page.goBack();
  await until(
    "one step back",
    async () => (await page.locator("#chart-kind").inputValue()) === "total",
  );
  assert.equal(await page.locator("#measure").inputValue(), "units");
  await page.locator("summary").click();
  const link = await page.locator("#json-link").getAttribute("href");
  const answer = await (await fetch(deployment.url + link)).json();
  assert.equal(answer.rows.length, await page.locator("#rows tbody tr").count());
});

test("a stretch of the chart is chosen with the mouse", async () => {
  await open("#/views/sales_by_shop?range=all&granularity=1h");
  await page.locator("#chart canvas").waitFor();
  const before_ = Number(plain(await text("#total")));
  const box = await page.locator("#chart .u-over").boundingBox();
  await page.mouse.move(box.x + box.width * 0.25, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await page.waitForURL(/from=.*to=/);
  await until(
    "the total is of the stretch",
    async () => Number(plain(await text("#total"))) < before_,
  );
  const choice = new URLSearchParams(new URL(page.url()).hash.split("?")[1]);
  const {
    rows: [{ orders }],
  } = await deployment.rows("sales_by_shop", {
    from: choice.get("from"),
    to: choice.get("to"),
    group_by: "",
    granularity: "all",
    measures: "orders",
  });
  await shows("#total", orders);
});

test("rows are saved as the command line's CSV", async () => {
  await open("#/views/sales_by_shop?range=all");
  await page.locator("#rows tbody tr").first().waitFor();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Save CSV" }).click(),
  ]);
  const { readFile } = await import("node:fs/promises");
  const saved = await readFile(await download.path(), "utf8");
  const expected = await deployment.run(
    "dovetail",
    "query",
    "sales_by_shop",
    "--group-by",
    "shop",
    "--granularity",
    "all",
    "--order",
    "-orders",
    "--format",
    "csv",
  );
  assert.equal(saved, expected);
});

test("a phone's screen needs no sideways scrolling", async () => {
  const hashes = {
    overview: "#/",
    view: "#/views/sales_by_shop?range=all",
    groups: "#/views/sales_by_shop?range=all&chart=groups&granularity=1h",
    pipeline: "#/pipeline",
    ever: "#/views/ever",
  };
  for (const width of [320, 360]) {
    for (const [name, hash] of Object.entries(hashes)) {
      await open(hash);
      await page.setViewportSize({ width, height: 740 });
      await page.locator("table, .card h2").first().waitFor();
      await sleep(200);
      const over = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.equal(over, 0, `${name} at ${width}`);
      const small = await page.evaluate(
        () =>
          [...document.querySelectorAll("select, .top button:not([hidden]), form button")].filter(
            (e) => e.offsetHeight < 32,
          ).length,
      );
      assert.equal(small, 0, "fields are large enough for a finger");
      if (width === 360) await browser.screenshot(page, `phone-${name}`, { fullPage: true });
      await page.close();
    }
  }
  page = null;
});

function luminance(colour) {
  const [r, g, b] = colour
    .match(/[\d.]+/g)
    .map(Number)
    .map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

test("light and dark follow the system, and both can be read", async () => {
  await open("#/views/sales_by_shop?range=all");
  await page.locator("#chart canvas").waitFor();
  const backgrounds = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const pairs = await page.evaluate(() =>
      [
        ...document.querySelectorAll(
          "h1, .note, .label, .badge, th button, td, .legend span, nav a, footer p, code",
        ),
      ].map((element) => {
        let back = element;
        while (back && getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)")
          back = back.parentElement;
        return [
          getComputedStyle(element).color,
          getComputedStyle(back ?? document.body).backgroundColor,
          element.className || element.tagName,
        ];
      }),
    );
    for (const [fore, back, what] of pairs) {
      const [high, low] = [luminance(fore), luminance(back)].sort((a, b) => b - a);
      assert.ok((high + 0.05) / (low + 0.05) >= 4.5, `${colorScheme} ${what}: ${fore} on ${back}`);
    }
    backgrounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    await browser.screenshot(page, `view-${colorScheme}`, { fullPage: true });
  }
  assert.ok(luminance(backgrounds[0]) > 0.8 && luminance(backgrounds[1]) < 0.05);
});

/* --- the pipeline --- */

test("the pipeline's page has offsets, a balanced ledger, rates and runs", async () => {
  await open("#/pipeline");
  await page.getByRole("heading", { name: "Batch runs" }).waitFor();
  await page.getByText("served now").waitFor();
  const status = await (await fetch(`${deployment.url}/v1/status`)).json();
  const [{ partitions }] = status.sources;
  const offsets = await page.locator("[aria-label='Offsets of sales'] tbody tr").allInnerTexts();
  offsets.forEach((line, p) => {
    const cells = line.split(/\s+/).filter(Boolean).map(plain);
    assert.deepEqual(
      cells.slice(0, 4),
      [
        partitions[p].partition,
        partitions[p].base,
        partitions[p].cutoff,
        partitions[p].position,
      ].map(String),
    );
  });
  assert.equal(
    await page
      .locator("[aria-label='Ledger of sales'] .badge.good", { hasText: "balanced" })
      .count(),
    partitions.length,
  );
  await deployment.produce("sales", ["{broken", ...records(900, 99)]);
  await until("records flow", async () => Number.parseFloat(await text("#rate-sales")) > 0);
  await page.locator("td.alarm", { hasText: "1" }).waitFor();
  await browser.screenshot(page, "pipeline", { fullPage: true });
});

test("halts, gaps and imported records are told where there are some", async () => {
  const status = await (await fetch(`${deployment.url}/v1/status`)).json();
  const source = status.sources.find((one) => one.source === "sales");
  source.partitions[1].halted = [
    {
      layer: "speed",
      message: `offsets 10 to 19 are lost ${hostile[0]}`,
      since: "2026-01-05T10:00:00Z",
    },
  ];
  source.partitions[2].gaps = [{ from: 5, to: 1234, accepted_at: "2026-01-04T10:00:00Z" }];
  source.imported = {
    archived: 54321,
    cutoff: 50000,
    ledger: { consumed: 50000, counted: 49000, filtered: 990, duplicate: 7, dead_lettered: 3 },
  };
  const body = JSON.stringify(status);
  await browser.context.route("**/v1/status", (route) =>
    route.fulfill({ contentType: "application/json", body }),
  );
  try {
    await open("#/pipeline");
    await page.getByRole("heading", { name: "Halted" }).waitFor();
    await page.getByText(`offsets 10 to 19 are lost ${hostile[0]}`).waitFor();
    await page.getByText("dovetail resume sales").waitFor();
    const gaps = page.getByRole("region", { name: "Gaps of sales" });
    assert.match(await gaps.innerText(), /1,229/);
    const imported = page.getByRole("region", { name: "Imported records of sales" });
    assert.match(await imported.innerText(), /54,321\s+50,000\s+49,000\s+990\s+7\s+3/);
    await page.getByText("The next batch run takes over").waitFor();
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await browser.screenshot(page, `pipeline-trouble-${colorScheme}`, { fullPage: true });
    }
    await page.setViewportSize({ width: 390, height: 844 });
    await browser.screenshot(page, "pipeline-trouble-phone", { fullPage: true });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `${width} pixels wide`);
    await page.setViewportSize({ width: 1280, height: 900 });
  } finally {
    await browser.context.unroute("**/v1/status");
  }
});

test("a view that is registered while the page is open appears, being built, and then goes on", async () => {
  await open();
  await page.getByRole("link", { name: "sales_by_shop" }).waitFor();
  await deployment.define({ ...views[0], view: "added_later", description: "Later." });
  await deployment.run("dovetail", "init");
  await page.getByRole("link", { name: "added_later" }).click();
  await page.getByRole("heading", { name: "This view is being built" }).waitFor();
  await deployment.run("dovetail-batch", "run");
  await shows("#total", 999);
});

test("a view that is not there is no failure", async () => {
  browser.outage = true; /* the browser reports 404 */
  await open("#/views/nothing");
  await page.getByText("there is no view of this name").waitFor();
  await page.getByRole("link", { name: "All views" }).click();
  await page.locator(".card").first().waitFor();
});

/* --- refreshing --- */

test("requests of the same kind never overlap, pause stops them, resume goes on", async () => {
  await open("#/pipeline");
  let running = 0;
  let most = 0;
  let count = 0;
  await page.route("**/v1/status", async (route) => {
    most = Math.max(most, ++running);
    count++;
    await sleep(1700); /* longer than the page's interval */
    running--;
    await route.continue().catch(() => {}); /* the page may have gone on without it */
  });
  await until("refreshes", () => count >= 2);
  assert.equal(most, 1);
  await page.unroute("**/v1/status");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText(/^paused/).waitFor();
  await sleep(300);
  count = 0;
  page.on("request", () => count++);
  await sleep(3500);
  assert.equal(count, 0);
  await page.getByRole("button", { name: "Resume" }).click();
  await until("it goes on", () => count > 1);
});

test("while a live stream is open nobody asks until something is new", async () => {
  const stream = browser.context.waitForEvent("request", (request) =>
    request.url().includes("/v1/views/sales_by_shop/live?"),
  );
  await open("#/views/sales_by_shop?range=all");
  await shows("#total", 999);
  assert.equal((await (await stream).response()).status(), 200);
  await sleep(1000);
  let asked = 0;
  page.on("request", (request) => (asked += request.url().includes("/rows?")));
  await sleep(4000); /* more than two intervals */
  assert.equal(asked, 0);
  await deployment.produce("sales", records(999, 1));
  await shows("#total", 1000);
  assert.ok(asked > 0);
  /* Another choice is another stream; a pause ends it. */
  const other = browser.context.waitForEvent("request", (request) =>
    /live\?.*shop=north/.test(request.url()),
  );
  await page.goto(`${deployment.url}/#/views/sales_by_shop?range=all&is.shop=north`);
  const ended = page.waitForEvent("requestfailed", (request) => request.url().includes("/live?"));
  await other;
  await page.getByRole("button", { name: "Pause" }).click();
  await ended;
});

test("a restart of serving is survived", async () => {
  browser.outage = true;
  await open("#/views/sales_by_shop?range=all");
  await shows("#total", 1000);
  await page.evaluate(() => {
    window.notReloaded = true;
  });
  await deployment.stop(deployment.serving);
  await page.getByText("dovetail-serving does not answer").waitFor();
  assert.equal(plain(await text("#total")), "1000", "what was known stays");
  await browser.screenshot(page, "serving-away");
  await produce2();
  await deployment.serve();
  await shows("#total", 1100);
  await until("the banner goes", async () => (await page.locator(".banner").count()) === 0);
  assert.equal(await page.evaluate(() => window.notReloaded), true);
});

async function produce2() {
  await deployment.produce("sales", records(1000, 100));
}

test("PostgreSQL away: it says so, greys what is old, tries less and less often, recovers by itself", async () => {
  browser.outage = true;
  await open("#/views/sales_by_shop?range=all");
  await shows("#total", 1100);
  await deployment.proxy.cut();
  await page.getByText("The database is away").waitFor();
  await page.locator("main.stale").waitFor();
  await page.getByText(/What you see is .* old/).waitFor();
  await page.getByText(/Trying again in [3-9] s/).waitFor();
  assert.equal(plain(await text("#total")), "1100");
  await browser.screenshot(page, "postgres-away");
  const second = await browser.page(`${deployment.url}/#/`);
  await second.getByText("There is nothing to show yet").waitFor();
  await browser.screenshot(second, "postgres-away-at-first");
  await deployment.proxy.open();
  await second.getByRole("button", { name: "Try now" }).click();
  await second.locator(".card h2").first().waitFor();
  await second.close();
  await until("it recovers", async () => (await page.locator(".banner, main.stale").count()) === 0);
  await shows("#total", 1100);
});

test("a refused part leaves the rest of the page alone", async () => {
  browser.outage = true; /* the browser reports 400 */
  await open("#/views/sales_by_shop?range=all");
  await page.route("**/rows?*order=-orders*", (route) =>
    route.fulfill({
      status: 400,
      contentType: "application/problem+json",
      body: JSON.stringify({
        type: "about:blank",
        title: "Bad",
        status: 400,
        detail: "measures: kinds has more than 3 values",
      }),
    }),
  );
  await page.getByText("measures: kinds has more than 3 values").waitFor();
  await shows("#total", 1100);
  assert.equal(await page.locator(".banner").count(), 0);
});

test("broken clocks, keys that nobody sees and keys without an end leave the page readable", async () => {
  const long = "x".repeat(300);
  const { at } = JSON.parse(records(1099, 1)[0]);
  const record = (shop, time) => JSON.stringify({ at: time, amount: 1, units: 99, shop });
  const shops = ["\t", long, " "].map((shop) => record(shop, at));
  await deployment.produce("sales", [...shops, record("north", "9998-12-31T00:00:00Z")]);
  await open("#/views/sales_by_shop?range=all");
  await shows("#total", 1104);
  assert.match(await text("#readout"), /newest: 9998/);
  await open("#/views/sales_by_shop");
  await page.locator("#chart").waitFor();
  assert.match(await text("#readout"), /newest: 2026/);
  await page.getByRole("button", { name: `Only shop ${long}` }).waitFor();
  const names = await page.locator("#rows tbody th").allInnerTexts();
  assert.ok(names.includes('"\\t"') && names.includes('" "'), names.join("|"));
  await page.setViewportSize({ width: 360, height: 740 });
  const cell = await page.locator("#rows td[data-column=orders]").first().boundingBox();
  assert.ok(cell.x + cell.width <= 360, "the first measure is on the screen");
  await browser.screenshot(page, "phone-long-key", { fullPage: true });
  await open("#/views/ever?group=large,shop");
  await page.locator("#group").waitFor();
  assert.equal(await text("#group option:checked"), "large, shop");
});

test("among many views one is found, and every card that is seen has its picture", async () => {
  const { context } = browser;
  await context.route("**/v1/views", async (route) => {
    const response = await route.fetch();
    const { views: real } = await response.json();
    const one = real.find(({ view }) => view === "sales_by_shop");
    const copies = Array.from({ length: 40 }, (_, i) => ({ ...one, view: `copy_${10 + i}` }));
    copies[39].description = `The last one, ${"without_any_end_".repeat(20)}`;
    await route.fulfill({ response, json: { views: copies } });
  });
  await context.route("**/v1/views/copy_*/rows?*", (route) =>
    route.continue({ url: route.request().url().replace(/copy_\d+/, "sales_by_shop") }),
  );
  try {
    await open();
    await page.locator("li.card").last().scrollIntoViewIfNeeded();
    await page.locator("li.card").last().locator("svg.spark").waitFor();
    await page.getByLabel("Find").fill("LAST one");
    await page.getByText("1 of 40 views").waitFor();
    assert.deepEqual(await page.locator(".card h2").allInnerTexts(), ["copy_49"]);
    await page.setViewportSize({ width: 360, height: 740 });
    await browser.screenshot(page, "phone-find", { fullPage: true });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${width} pixels wide`);
    await page.getByLabel("Find").fill("copy_10 last");
    await page.getByText("No view has all of these words.").waitFor();
    await page.getByLabel("Find").fill("");
    await page.getByText("40 views").waitFor();
    assert.equal(await page.locator("li.card").count(), 40);
  } finally {
    await context.unroute("**/v1/views");
    await context.unroute("**/v1/views/copy_*/rows?*");
  }
});

/* --- tokens --- */

test("with tokens: sign in, see what is one's own, sign out", async () => {
  browser.outage = true; /* the browser reports 401 and 403 */
  const { url, tokens } = await deployment.serveWithTokens([
    { name: "northern", views: ["sales_by_shop"], rows: { shop: ["north"] } },
    { name: "nothing", views: [] },
    { name: "boss", views: "*", role: "admin" },
  ]);
  const asked = [];
  page = await browser.page(`${url}/#/`);
  page.on("request", (request) => asked.push(request));
  const field = page.getByLabel("Token");
  const signIn = async (token) => {
    await field.fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
  };
  const shown = () => page.locator(".card h2").allInnerTexts();
  const pictures = async (name) => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await browser.screenshot(page, `${name}-${colorScheme}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 360, height: 740 });
    const over = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    assert.equal(over, 0, `${name} on a phone`);
    await browser.screenshot(page, `${name}-phone`);
    await page.setViewportSize({ width: 1280, height: 900 });
  };

  /* Nobody yet, and somebody unknown. */
  await field.waitFor();
  assert.deepEqual(await shown(), []);
  assert.equal(await page.getByRole("button", { name: "Sign out" }).isVisible(), false);
  assert.equal(await page.getByRole("link", { name: "Status as JSON" }).isVisible(), false);
  await pictures("sign-in");
  await signIn(`dvt_${"x".repeat(43)}`);
  await page.getByText("the token is not known here").waitFor();
  assert.equal(await field.inputValue(), "");

  /* His own: the views, the rows, the stream. */
  await signIn(tokens.northern);
  await page.locator(".card h2").first().waitFor();
  assert.deepEqual(await shown(), ["sales_by_shop"]);
  await until("the picture comes", async () => (await page.locator(".card svg").count()) === 1);
  assert.equal(await page.locator(".banner").count(), 0);
  await pictures("signed-in");
  const mine = { headers: { authorization: `Bearer ${tokens.northern}` } };
  const answer = await fetch(
    `${url}/v1/views/sales_by_shop/rows?granularity=all&group_by=&measures=orders`,
    mine,
  );
  const [{ orders }] = (await answer.json()).rows;
  assert.ok(orders > 0 && orders < 1100);
  const stream = page.waitForResponse((response) => response.url().includes("/live?"));
  await page.goto(`${url}/#/views/sales_by_shop?range=all`);
  await shows("#total", orders);
  assert.equal((await stream).status(), 200);
  const rows = await page.locator("#rows tbody tr").allInnerTexts();
  assert.equal(rows.length, 1);
  assert.match(rows[0], /^north/);

  /* What is the administrator's is said to be; it is asked for once. */
  await page.getByRole("link", { name: "Pipeline" }).click();
  await page.getByRole("heading", { name: "For administrators" }).waitFor();
  assert.equal(await page.locator(".banner").count(), 0);
  await pictures("admins-only");
  asked.length = 0;
  await sleep(3500);
  assert.equal(asked.length, 0);

  /* It is the tab's, and nowhere else. */
  const kept = await page.evaluate(() => [
    Object.values(sessionStorage),
    Object.values(localStorage),
    document.cookie,
    location.href,
  ]);
  assert.deepEqual(kept, [[tokens.northern], [], "", `${url}/#/pipeline`]);
  assert.ok(asked.every((request) => !request.url().includes("dvt_")));
  await page.reload();
  await page.getByRole("heading", { name: "For administrators" }).waitFor();
  const other = await browser.page(`${url}/#/`);
  await other.getByLabel("Token").waitFor();
  await other.close();

  /* Nothing stays behind him. */
  await page.getByRole("link", { name: "Views", exact: true }).click();
  await page.locator(".card h2").first().waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await field.waitFor();
  assert.deepEqual(await shown(), []);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await signIn(tokens.nothing);
  await page.getByRole("heading", { name: "No views for this token" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(tokens.boss);
  await until("all views", async () => (await shown()).length >= views.length);
  await page.getByRole("link", { name: "Pipeline" }).click();
  await page.getByRole("heading", { name: "sales" }).first().waitFor();
});

/* --- pure functions, where they run --- */

test("numbers and times are formatted right", async () => {
  await open();
  const got = await page.evaluate(async () => {
    const f = await import("/dashboard/format.js");
    const q = await import("/dashboard/query.js");
    const { parseExact } = await import("/dashboard/api.js");
    const long = parseExact("[123456789012345678901.25, 0.1, 9007199254740993]");
    return {
      long: long.map(f.exact),
      short: [...long, -9.999, 0.066666].map(f.short),
      null: f.exact(null),
      keys: [null, "", "a b", " a", "a\n", "\u202Eab", "日本", "\u{1F600}", "\u00A0"].map(f.keyText),
      list: f.exact([1, 2]),
      compact: [0, 999, 1234, -1500000, 0.25].map(f.compact),
      percent: [
        f.percent(1, 3),
        f.percent(0, 5),
        f.percent(1, 100000),
        f.percent(99999, 100000),
        f.percent(1, 0),
      ],
      duration: [5, 1500, 90000, 3600000 * 3, 86400000 * 4].map(f.duration),
      span: [f.span(0, 86400000), f.span(0, 3600000), f.span(null, null), f.span(0, 7 * 86400000)],
      difference: [
        q.difference("9007199254740993", "9007199254740992"),
        q.difference(0.3, 0.1),
        q.difference(5, null),
      ],
      additive: [
        "count(*)",
        "sum(x) FILTER (WHERE y)",
        "count(DISTINCT x)",
        "avg(x)",
        "COUNT( x )",
      ].map((expression) => q.isAdditive({ type: "integer", expression })),
      round: q.formatState(q.parseState("measure=a&is.k=x%26y&null.l=1&is.e=")),
    };
  });
  assert.deepEqual(got, {
    long: ["123,456,789,012,345,678,901.25", "0.1", "9,007,199,254,740,993"],
    short: ["123,456,789,012,345,678,901.3", "0.1", "9,007,199,254,740,993", "-10.00", "0.0667"],
    null: "NULL",
    keys: [
      "NULL",
      '""',
      "a b",
      '" a"',
      '"a\\n"',
      '"\\u202Eab"',
      "日本",
      "\u{1F600}",
      '"\u00A0"',
    ],
    list: "[1, 2]",
    compact: ["0", "999", "1.23k", "-1.5M", "0.25"],
    percent: ["33.3 %", "0 %", "< 0.1 %", "> 99.9 %", "0 %"],
    duration: ["5 ms", "1.5 s", "90 s", "3 h", "4 days"],
    span: ["1970-01-01", "1970-01-01 00:00 – 01:00", "all time", "1970-01-01 to 1970-01-07"],
    difference: [1, 0.2, 5],
    additive: [true, true, false, false, true],
    round: "?measure=a&is.k=x%26y&null.l=1&is.e=",
  });
});
