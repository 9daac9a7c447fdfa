/* Repeats a piece of work while the page is visible: one at a time, later and later while it fails.
 *
 * While somebody tells when there is something new (live), it is done then, and seldom otherwise.
 * The next run is planned only when the last one has ended, so requests never overlap; a longer
 * answer means a longer pause, so a slow server gets room. */

const INTERVAL_MS = 1500;
const BACK_OFF_MAX_MS = 15000;
const LIVE_INTERVAL_MS = 15000;
const LIVE_GAP_MS = 400; /* between the begin of two, however often something is new */

export class Poller {
  #work;
  #changed;
  #timer = null;
  #running = null; /* AbortController */
  #failures = 0;
  #live = false;
  #again = false; /* something came up while the work was done */
  #startedAt = 0;
  #tookMs = 0;
  paused = false;
  problem = null; /* of the last attempt */
  lastGoodAt = null; /* performance.now() */
  nextAt = null;

  /* work(signal) is a promise; changed() is called after every change of what can be read above. */
  constructor(work, changed) {
    this.#work = work;
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#cancelTimer();
      else if (!this.paused && this.#running === null) this.#run();
    });
  }

  /* Begins anew, for other work: what is under way is thrown away. */
  restart() {
    this.lastGoodAt = null;
    this.problem = null;
    this.#failures = 0;
    this.now();
  }

  /* Whether nudge() tells what is new. */
  setLive(live) {
    if (live === this.#live) return;
    this.#live = live;
    if (this.#timer !== null) this.#plan();
  }

  /* There is something new. */
  nudge() {
    if (this.paused || document.hidden) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    if (this.#failures > 0) return; /* its time comes */
    this.#cancelTimer();
    const gap = Math.max(LIVE_GAP_MS, 2 * this.#tookMs);
    this.#wait(Math.max(0, this.#startedAt + gap - performance.now()));
  }

  now() {
    this.#cancelTimer();
    this.#running?.abort();
    this.#running = null;
    this.#run();
  }

  setPaused(paused) {
    this.paused = paused;
    if (paused) {
      this.#cancelTimer();
      this.#changed();
    } else {
      this.now();
    }
  }

  #cancelTimer() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.nextAt = null;
  }

  #wait(delay) {
    this.nextAt = performance.now() + delay;
    this.#timer = setTimeout(() => this.#run(), delay);
  }

  #plan() {
    this.#cancelTimer();
    if (this.paused || document.hidden) return;
    let delay = Math.max(this.#live ? LIVE_INTERVAL_MS : INTERVAL_MS, 2 * this.#tookMs);
    if (this.#failures > 0)
      delay =
        Math.min(BACK_OFF_MAX_MS, INTERVAL_MS * 2 ** (this.#failures - 1)) *
        (0.9 + 0.2 * Math.random());
    this.#wait(delay);
  }

  async #run() {
    const mine = new AbortController();
    this.#startedAt = performance.now();
    this.#running = mine;
    this.#timer = null;
    this.#again = false;
    this.nextAt = null;
    let problem = null;
    try {
      await this.#work(mine.signal);
    } catch (error) {
      problem = error;
    }
    if (this.#running !== mine) return; /* another run has taken its place */
    this.#running = null;
    this.problem = problem;
    if (problem === null) {
      this.#failures = 0;
      this.lastGoodAt = performance.now();
    } else {
      this.#failures++;
    }
    this.#tookMs = performance.now() - this.#startedAt;
    this.#plan();
    if (this.#again) this.nudge();
    this.#changed();
  }
}
