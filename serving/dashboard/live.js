/* Follows a live stream of the server: tells when there is something new, so that nobody has to ask.
 *
 * What has changed is asked for by the page as ever, because it shows more than one question; the stream says
 * when. Read with fetch, which can be ended and says why it failed. Where it fails, off() is called, the page
 * asks at intervals again, and the stream is tried anew from time to time. */

import { authorization } from "./api.js";

const RETRY_MS = 15000;

export class Follower {
  #events;
  #address = null;
  #controller = null;
  #timer = null;

  /* events: on(): the stream is there; off(): it is not; moved(): rows are other; receipt(receipt): they are not. */
  constructor(events) {
    this.#events = events;
  }

  /* Another stream, or none (null). The same one goes on. */
  follow(address) {
    if (address === this.#address) return;
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
    this.#address = address;
    if (address === null) this.#events.off();
    else this.#open(address);
  }

  async #open(address) {
    const mine = new AbortController();
    this.#controller = mine;
    try {
      const response = await fetch(address, {
        signal: mine.signal,
        cache: "no-store",
        credentials: "omit",
        headers: { accept: "text/event-stream", ...authorization() },
      });
      if (response.ok) {
        this.#events.on();
        await this.#read(response.body.pipeThrough(new TextDecoderStream()).getReader(), mine);
      }
    } catch {
      /* the page's own requests tell what is wrong */
    }
    if (mine.signal.aborted) return;
    this.#events.off();
    this.#timer = setTimeout(() => this.#open(address), RETRY_MS);
  }

  async #read(reader, mine) {
    let rest = "";
    let state = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done || mine.signal.aborted) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) state = this.#take(part, state);
    }
  }

  /* One event; its id, which changes with run, C, P and watermark. */
  #take(text, before) {
    const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(text)?.[1] ?? "";
    const id = field("id");
    if (field("event") === "receipt" && (before === null || id === before))
      this.#events.receipt(JSON.parse(field("data")).receipt);
    else this.#events.moved();
    return id;
  }
}
