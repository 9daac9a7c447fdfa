/* The frame around the pages: which one is shown, its refreshing, and what is said when it fails. */
import { hasToken, setToken } from "./api.js";
import { h, show } from "./dom.js";
import { duration } from "./format.js";
import { Follower } from "./live.js";
import { Overview } from "./overview.js";
import { Pipeline } from "./pipeline.js";
import { Poller } from "./poller.js";
import { freshness } from "./receipt.js";
import { ViewPage } from "./view.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const live = document.getElementById("live");
const pause = document.getElementById("pause");
const signOut = document.getElementById("sign-out");

let page = null;
let address = null; /* of the page, without its choices */
const poller = new Poller((signal) => page.poll(signal), changed);
const follower = new Follower({
  on: () => poller.setLive(true),
  off: () => poller.setLive(false),
  moved: () => poller.nudge(),
  receipt: (receipt) => {
    page.tell?.(receipt);
    renderLive();
  },
});

/* --- routes --- */

function split(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?", 2);
  return { path: path || "/", query };
}

/* A page has an element of its own, so that one that was left draws nothing over the next. */
function create(path, root) {
  if (path === "/") return new Overview(root);
  if (path === "/pipeline") return new Pipeline(root);
  const view = /^\/views\/([a-z0-9_]+)$/.exec(path);
  return view ? new ViewPage(root, view[1], () => poller.now()) : null;
}

function route() {
  const { path, query } = split(location.hash);
  if (path === address) {
    page.choose?.(query);
    return;
  }
  const root = h("div");
  const next = create(path, root);
  if (next === null) {
    location.replace("#/");
    return;
  }
  page?.close();
  follower.follow(null);
  address = path;
  page = next;
  main.replaceChildren(root);
  page.choose?.(query);
  page.render();
  document.title = `${page.title} – Dovetail`;
  for (const link of document.querySelectorAll("nav a"))
    if (link.dataset.page === (path === "/pipeline" ? "pipeline" : "overview"))
      link.setAttribute("aria-current", path === "/" || path === "/pipeline" ? "page" : "true");
    else link.removeAttribute("aria-current");
  window.scrollTo(0, 0);
  poller.restart();
}

/* --- what is said of the refreshing --- */

const HEADLINES = {
  unreachable: "No connection",
  away: "The database is away",
  slow: "The query takes too long",
  broken: "Something is wrong",
  unknown: "Not found",
  refused: "The question was refused",
  forbidden: "Not for this token",
};

/* Nothing stays that was shown to somebody else. */
function useToken(token) {
  setToken(token);
  address = null;
  route();
}

/* A token works from the next request on; a wrong one is asked for again. */
function takeToken(event) {
  event.preventDefault();
  const token = event.target.elements.token.value.trim();
  event.target.reset();
  if (token !== "") useToken(token);
}

/* In the place of the page. It stays as it is while somebody types: nothing in it changes from one drawing
 * to the next. */
function signIn(problem) {
  return h(
    "div",
    { class: "sign-in panel" },
    h("h1", {}, "Sign in"),
    h(
      "p",
      { role: "alert", class: hasToken() ? "problem" : null },
      hasToken()
        ? `That did not work: ${problem.message}.`
        : "Enter the token that you were given: it says which views you see.",
    ),
    h(
      "form",
      { onsubmit: takeToken },
      h("label", { for: "token" }, "Token"),
      h("input", {
        id: "token",
        type: "password",
        name: "token",
        autocomplete: "off",
        spellcheck: "false",
        "data-keep": true,
      }),
      h("button", {}, "Sign in"),
    ),
    h("p", { class: "note" }, "It is kept in this tab alone, until you sign out or close it."),
  );
}

function age() {
  return poller.lastGoodAt === null ? null : performance.now() - poller.lastGoodAt;
}

function renderBanner() {
  const problem = poller.problem;
  main.classList.toggle("waiting", problem !== null && poller.lastGoodAt === null);
  main.classList.toggle("stale", problem !== null && poller.lastGoodAt !== null);
  const asks = problem?.kind === "nobody";
  document.body.classList.toggle("asks", asks);
  document.body.classList.toggle("with-token", asks || hasToken());
  signOut.hidden = asks || !hasToken();
  if (problem === null || asks) {
    show(banner, asks ? signIn(problem) : null);
    return;
  }
  const next =
    poller.nextAt === null
      ? null
      : Math.max(0, Math.ceil((poller.nextAt - performance.now()) / 1000));
  const known = age();
  show(
    banner,
    h(
      "div",
      { class: "banner" },
      h(
        "div",
        { class: "inner" },
        h(
          "p",
          { role: "alert" },
          h("b", {}, HEADLINES[problem.kind] ?? "Something is wrong"),
          ": ",
          problem.kind ? problem.message : String(problem),
          ".",
        ),
        h(
          "p",
          {},
          known === null
            ? "There is nothing to show yet. "
            : `What you see is ${duration(Math.round(known / 1000) * 1000)} old. `,
          poller.paused
            ? "Refreshing is paused."
            : next === null
              ? "Trying again…"
              : `Trying again in ${next} s.`,
        ),
        h("button", { type: "button", onclick: () => poller.now() }, "Try now"),
      ),
    ),
  );
}

function renderLive() {
  const known = page?.live?.() ?? null;
  if (poller.problem?.kind === "nobody")
    show(live, h("i", { class: "dot idle" }), h("span", {}, "signed out"));
  else if (poller.problem !== null)
    show(
      live,
      h("i", { class: "dot bad" }),
      h("span", {}, poller.lastGoodAt === null ? "no data" : "stale"),
    );
  else if (poller.paused)
    show(
      live,
      h("i", { class: "dot idle" }),
      h("span", {}, `paused ${duration(Math.round((age() ?? 0) / 1000) * 1000)} ago`),
    );
  else if (known === null || known.note)
    show(live, h("i", { class: "dot idle" }), h("span", {}, known?.note ?? "loading"));
  else {
    const { level, text } = freshness(known.freshness);
    show(
      live,
      h("i", { class: `dot ${level}` }),
      h(
        "span",
        {},
        text,
        known.run > 0 ? h("span", { class: "run" }, ` · run ${known.run}`) : null,
      ),
    );
  }
}

/* What the page wants to be told of, if it is to be seen. */
function follow() {
  const wanted = poller.paused || document.hidden ? null : page.stream?.();
  follower.follow(wanted ?? null);
}

function changed() {
  follow();
  page.render();
  renderBanner();
  renderLive();
}

/* --- start --- */

pause.addEventListener("click", () => {
  poller.setPaused(!poller.paused);
  pause.textContent = poller.paused ? "Resume" : "Pause";
  pause.setAttribute("aria-pressed", String(poller.paused));
});
signOut.addEventListener("click", () => useToken(null));
document.getElementById("skip").addEventListener("click", () => main.focus());
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", follow);
setInterval(() => {
  if (document.hidden) return;
  renderBanner();
  renderLive();
}, 1000);
route();
