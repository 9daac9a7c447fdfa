/* Requests to this server, and what can go wrong with them. */

const TIMEOUT_MS = 15000;

/* A number that a double cannot hold: its digits as they came. In arithmetic the nearest double. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
  valueOf() {
    return Number(this.text);
  }
  toString() {
    return this.text;
  }
  toJSON() {
    return JSON.rawJSON ? JSON.rawJSON(this.text) : Number(this.text);
  }
}

/* Browsers that do not tell a number's text round it to a double, as they always did. */
function revive(key, value, context) {
  if (typeof value !== "number" || context === undefined || String(value) === context.source)
    return value;
  return new Exact(context.source);
}

export function parseExact(text) {
  return JSON.parse(text, revive);
}

/* kind: "unreachable" (no answer at all), "away" (503), "building" (503 of a view), "refused" (400),
 * "unknown" (404), "slow" (504), "nobody" (401: a token is needed), "forbidden" (403: it does not cover
 * this), "broken" (anything else). */
export class Problem extends Error {
  constructor(kind, detail, parameter) {
    super(detail);
    this.kind = kind;
    this.parameter = parameter ?? null;
  }
  /* Nothing else will work either, as long as this lasts. */
  get isGlobal() {
    return this.kind === "unreachable" || this.kind === "away" || this.kind === "nobody";
  }
}

const KINDS = { 400: "refused", 401: "nobody", 403: "forbidden", 404: "unknown", 414: "refused", 503: "away", 504: "slow" };

async function problemOf(response) {
  let detail = `the server answers with status ${response.status}`;
  let parameter = null;
  try {
    const body = await response.json();
    detail = body.detail ?? detail;
    parameter = body.parameter;
  } catch {
    /* the status alone has to do */
  }
  let kind = KINDS[response.status] ?? "broken";
  if (kind === "away" && detail.includes("being built")) kind = "building";
  return new Problem(kind, detail, parameter);
}

/* Of the tab, and gone with it; never in an address. */
const TOKEN = "dovetail-token";

/* null: forget it. */
export function setToken(text) {
  if (text === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, text);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/* Others of the browser's headers stay as they are. */
export function authorization() {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

export async function getJson(address, signal) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const both = AbortSignal.any ? AbortSignal.any([signal, limit]) : signal;
  let response;
  let text;
  try {
    response = await fetch(address, {
      signal: both,
      cache: "no-store",
      credentials: "omit",
      headers: authorization(),
    });
    if (!response.ok) throw await problemOf(response);
    text = await response.text();
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
    if (limit.aborted) throw new Problem("unreachable", `no answer within ${TIMEOUT_MS / 1000} s`);
    throw new Problem("unreachable", "dovetail-serving does not answer");
  }
  return parseExact(text);
}

/* Answers of the batch layer change with the run alone, so each is asked for once per run. */
export class BatchAnswers {
  #run = null;
  #answers = new Map();

  /* fresh: they may change within a run, too, such as by columns that are looked up elsewhere. */
  async get(address, run, fresh, signal) {
    if (run !== this.#run || fresh) {
      this.#answers.clear();
      this.#run = run;
    }
    if (!this.#answers.has(address)) {
      const answer = await getJson(address, signal);
      if (answer.receipt.run !== run)
        return null; /* published meanwhile: the next refresh has it */
      if (this.#answers.size >= 64) this.#answers.clear();
      this.#answers.set(address, answer);
    }
    return this.#answers.get(address);
  }
}
