/* A deployment of its own on a running stack: a database, a topic for each source, a configuration, and
 * the programs from $DOVETAIL_BUILD. Everything goes away with close(), but the topics, which go with
 * the stack.
 *
 * Serving reaches PostgreSQL through a proxy, so that a test can take the database away from it alone. */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const WAIT_MS = 60000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/* The first answer of `check` that is not false, null or undefined. */
export async function until(what, check, timeoutMs = WAIT_MS) {
  const deadline = Date.now() + timeoutMs;
  let failure = null;
  while (Date.now() < deadline) {
    try {
      const answer = await check();
      if (answer !== false && answer !== null && answer !== undefined) return answer;
    } catch (error) {
      failure = error;
    }
    await sleep(50);
  }
  throw new Error(
    `not within ${timeoutMs / 1000} s: ${what}${failure ? ` (${failure.message})` : ""}`,
  );
}

/* TCP to PostgreSQL, until it is cut: then connections end and new ones are refused. */
class Proxy {
  #server = null;
  #sockets = new Set();
  port = 0;

  constructor(host, port) {
    this.to = { host, port };
  }

  async open() {
    this.#server = net.createServer((client) => {
      const server = net.connect(this.to);
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on("close", () => this.#sockets.delete(socket));
        socket.on("error", () => {});
      }
      client.pipe(server).pipe(client);
      client.on("close", () => server.destroy());
      server.on("close", () => client.destroy());
    });
    await new Promise((done) => this.#server.listen(this.port, "127.0.0.1", done));
    this.port = this.#server.address().port;
  }

  async cut() {
    const closed = new Promise((done) => this.#server.close(done));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function conninfoValue(conninfo, name) {
  return new RegExp(`(?:^|\\s)${name}\\s*=\\s*'?([^'\\s]+)`).exec(conninfo)?.[1];
}

async function freePort() {
  const server = net.createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export class Deployment {
  #children = [];
  #stack = process.env.DOVETAIL_POSTGRES;
  #kafka = process.env.DOVETAIL_KAFKA;
  #build = path.resolve(process.env.DOVETAIL_BUILD ?? "build");

  /* sources and views: definitions; a source's topic is chosen here. */
  static async create(sources, views) {
    const deployment = new Deployment();
    await deployment.#create(sources, views);
    return deployment;
  }

  async #create(sources, views) {
    const suffix = randomBytes(6).toString("hex");
    this.database = `dovetail_browser_${suffix}`;
    this.directory = await mkdtemp(path.join(tmpdir(), "dovetail-browser-"));
    for (const folder of ["schemas/sources", "schemas/views", "log"])
      await mkdir(path.join(this.directory, folder), { recursive: true });
    for (const source of sources)
      await this.#write(`schemas/sources/${source.source}.json`, {
        ...source,
        topic: `browser-${source.source}-${suffix}`,
      });
    for (const view of views) await this.define(view);
    await run("psql", [
      "-qX",
      "-v",
      "ON_ERROR_STOP=1",
      "-c",
      `CREATE DATABASE ${this.database}`,
      this.#stack,
    ]);
    this.postgres = `${this.#stack} dbname=${this.database}`;
    this.proxy = new Proxy(
      conninfoValue(this.#stack, "host"),
      Number(conninfoValue(this.#stack, "port")),
    );
    await this.proxy.open();
    const settings = {
      kafka: { "bootstrap.servers": this.#kafka },
      postgres: this.postgres,
      schemas: "schemas",
      speed: { flush_interval_ms: 20, slice_interval_ms: 700 },
      batch: { archive: "archive" },
    };
    this.settings = settings;
    await this.#write("dovetail.json", settings);
    await this.#write("serving.json", {
      ...settings,
      postgres: `${this.postgres} host=127.0.0.1 port=${this.proxy.port}`,
      serving: { listen: `127.0.0.1:${await this.#choosePort()}` },
    });
    await this.run("dovetail", "init");
  }

  async #choosePort() {
    this.port = await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    return this.port;
  }

  #write(file, json) {
    return writeFile(path.join(this.directory, file), JSON.stringify(json, null, 2));
  }

  define(view) {
    return this.#write(`schemas/views/${view.view}.json`, view);
  }

  /* Runs a program to its end; standard output. */
  async run(program, ...args) {
    const { stdout } = await run(
      path.join(this.#build, program),
      [...args, "--config", path.join(this.directory, "dovetail.json")],
      { cwd: this.directory, maxBuffer: 1 << 28 },
    );
    return stdout;
  }

  start(program, config = "dovetail.json") {
    const child = spawn(
      path.join(this.#build, program),
      ["--config", path.join(this.directory, config)],
      { cwd: this.directory, stdio: ["ignore", "pipe", "pipe"] },
    );
    const log = createWriteStream(path.join(this.directory, "log", program), { flags: "a" });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const ended = new Promise((done) => child.on("exit", done));
    this.#children.push({ child, ended });
    return { child, ended };
  }

  async stop({ child, ended }) {
    child.kill("SIGTERM");
    await ended;
  }

  async serve() {
    this.serving = this.start("dovetail-serving", "serving.json");
    await until("serving is ready", async () => (await fetch(`${this.url}/readyz`)).ok);
  }

  /* Another serving process, which asks for tokens: { url, tokens }, tokens by their names. Entries are
   * as in the configuration, without the hash. */
  async serveWithTokens(entries) {
    const tokens = {};
    const hashed = [];
    for (const entry of entries) {
      const out = await this.run("dovetail", "token", "new", entry.name);
      tokens[entry.name] = /token: (\S+)/.exec(out)[1];
      hashed.push({ ...JSON.parse(/entry: (.*)/.exec(out)[1]), ...entry });
    }
    const port = await freePort();
    await this.#write("guarded.json", {
      ...this.settings,
      serving: { listen: `127.0.0.1:${port}`, tokens: hashed },
    });
    this.start("dovetail-serving", "guarded.json");
    const url = `http://127.0.0.1:${port}`;
    await until("it is ready", async () => (await fetch(`${url}/readyz`)).ok);
    return { url, tokens };
  }

  /* Sends records and waits until the answers have them. */
  async produce(source, records) {
    const file = path.join(this.directory, `${source}.jsonl`);
    await writeFile(
      file,
      records
        .map((record) => `${typeof record === "string" ? record : JSON.stringify(record)}\n`)
        .join(""),
    );
    const out = await this.run("dovetail", "produce", source, file, "--offsets");
    this.offsets = /\{.*\}/.exec(out)[0];
    return this.offsets;
  }

  async rows(view, parameters = {}) {
    const query = new URLSearchParams(parameters);
    const response = await fetch(`${this.url}/v1/views/${view}/rows?${query}`);
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    return response.json();
  }

  async close() {
    for (const { child, ended } of this.#children.reverse()) {
      child.kill("SIGTERM");
      const guard = setTimeout(() => child.kill("SIGKILL"), 20000);
      await ended;
      clearTimeout(guard);
    }
    await this.proxy?.cut();
    await run("psql", [
      "-qX",
      "-c",
      `DROP DATABASE IF EXISTS ${this.database} WITH (FORCE)`,
      this.#stack,
    ]);
    if (process.env.DOVETAIL_KEEP === undefined)
      await rm(this.directory, { recursive: true, force: true });
  }
}
