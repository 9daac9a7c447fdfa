/* Chromium, and an eye on all that a page does: faults, policy violations, requests to elsewhere. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-default-apps",
  "--disable-extensions",
  "--no-first-run",
  "--disable-dev-shm-usage",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const SCREENSHOTS = path.resolve(process.env.DOVETAIL_SCREENSHOTS ?? "build/browser");

export class Browser {
  faults = []; /* of every page, as texts */
  elsewhere = []; /* addresses of requests to other servers */
  outage = false; /* failing requests are expected; the browser reports each as an error */

  static async open(options = {}) {
    const browser = new Browser();
    await mkdir(SCREENSHOTS, { recursive: true });
    browser.directory = await mkdtemp(path.join(tmpdir(), "dovetail-chromium-"));
    browser.context = await chromium.launchPersistentContext(browser.directory, {
      headless: true,
      args: ARGUMENTS,
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      viewport: { width: 1280, height: 900 },
      acceptDownloads: true,
      ...options,
    });
    browser.context.setDefaultTimeout(30000);
    return browser;
  }

  async page(url) {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.faults.push(`${error.message}\n${error.stack}`));
    page.on("console", (message) => {
      const text = message.text();
      if (!["error", "warning"].includes(message.type())) return;
      if (!(this.outage && /^Failed to load resource/.test(text)))
        this.faults.push(`console: ${text}`);
    });
    page.on("request", (request) => {
      const { hostname, protocol } = new URL(request.url());
      if (hostname !== "127.0.0.1" && !["blob:", "data:"].includes(protocol))
        this.elsewhere.push(request.url());
    });
    await page.goto(url);
    return page;
  }

  screenshot(page, name, options = {}) {
    return page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`), ...options });
  }

  async close() {
    await this.context.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
