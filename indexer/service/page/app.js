// The page: one state, which stands in the address; each change of it is searched for and drawn.

import * as api from "./api.js";
import { open as openCompare, setUpCompare } from "./compare.js";
import { renderControls, setUpControls } from "./controls.js";
import { filterIsWrong, renderFilters, setUpFilters } from "./filters.js";
import { within } from "./histogram.js";
import { listen } from "./intake.js";
import { explain, message, noMessage, nothing, refusalOf } from "./messages.js";
import { keep, kept, remember, show } from "./pictures.js";
import { nameOf, renderQuery } from "./query.js";
import { begin, isDrawing, renderRegion, setUpRegion } from "./region.js";
import { isBeyond, more, preview, renderHits, setUpResults, skeleton } from "./results.js";
import { setUpShare } from "./share.js";
import { ALL, asked, COLUMN, fromAddress, isHome, LEVELS, options, PAGE, plan, source, toAddress, withoutItself } from "./state.js";
import { bits, byId, count, el, images, milliseconds, printable, toast } from "./text.js";

const WAITS = [1, 2, 5, 10, 30]; // seconds between two tries while the service is away
const REMEMBERED = 30; // answers, so that going back takes no time

const app = {
  state: fromAddress(location.search),
  info: null,
  how: null,
  response: null,
  histogram: null,
  answers: new Map(), // by request
  aborting: null,
  loading: false, // of further hits
  complete: true,
  sliding: false, // what is farther than the slider says is hidden, until the answer comes
  tries: 0,
  change, ask, vote, run, home, request, whole, toLevel, askToken,
  preview: (radius) => {
    app.sliding = true;
    preview(radius);
  },
  compare: (item) => openCompare(app, item),
  keys: () => byId("keys-on").checked,
};

/** Change the state, write it into the address, and search. */
function change(patch, { push = false } = {}) {
  app.state = { ...app.state, ...patch };
  history[push ? "pushState" : "replaceState"]({}, "", toAddress(app.state));
  if (push) scrollTo({ top: 0 });
  return run();
}

/** Look for something else. */
function ask(query) {
  begin(app, false);
  app.response = null;
  return change(asked(app.state, query), { push: true });
}

function home() {
  history.pushState({}, "", "/");
  app.state = fromAddress("");
  scrollTo({ top: 0 });
  return run();
}

function toLevel(level) {
  return change({ level, question: "similar", radius: null, cutoff: app.state.question === "similar" ? app.state.cutoff : null });
}

/** Like or dislike a hit, or take that back. */
function vote(key, what) {
  const other = what === "like" ? "dislike" : "like";
  const had = app.state[what].includes(key);
  toast(had ? "Taken back" : what === "like" ? "More like this one" : "Less like this one");
  return change({
    [what]: had ? app.state[what].filter((one) => one !== key) : [...app.state[what], key],
    [other]: app.state[other].filter((one) => one !== key),
  }, { push: true });
}

function request(offset = 0, k = app.how.level === ALL ? COLUMN : PAGE) {
  return { ...source(app.state, app.how), ...options(app.state, app.how, offset, k) };
}

/** The response with all hits that are shown. */
function whole() {
  const answers = app.response.answers.map(({ seen, hits, ...answer }) => ({ ...answer, hits: hits.map((hit, at) => ({ ...hit, rank: at + 1 })) }));
  return { ...app.response, answers };
}

/** Search for what the state says, and draw the answer. */
async function run({ shown = 0 } = {}) {
  app.sliding = false;
  app.aborting?.abort();
  const aborting = (app.aborting = new AbortController());
  clearTimeout(app.retry);
  try {
    await known();
  } catch (error) {
    return failed(error, aborting);
  }
  if (aborting.signal.aborted) return undefined;
  filterIsWrong(null);
  document.body.classList.toggle("home", isHome(app.state));
  byId("side").hidden = isHome(app.state);
  byId("hero").hidden = !isHome(app.state);
  if (isHome(app.state)) return renderHome(aborting);
  app.how = plan(app.state, app.info);
  document.title = `${nameOf(app.state)} · Hashgrain`;
  const asking = request(0, Math.max(shown, app.how.level === ALL ? COLUMN : PAGE));
  const name = JSON.stringify(asking);
  const slow = setTimeout(() => skeleton(app), 150);
  if (!app.answers.has(name)) renderSide();
  try {
    const response = app.answers.get(name) ?? (await send(asking, aborting.signal));
    if (aborting.signal.aborted) return undefined;
    performance.mark("answer");
    app.answers.delete(name);
    app.answers.set(name, response);
    if (app.answers.size > REMEMBERED) app.answers.delete(app.answers.keys().next().value);
    app.tries = 0;
    app.response = { ...response, answers: response.answers.map((answer) => ({ ...answer })) };
    app.histogram = app.how.level === ALL ? null : (response.answers[0].histogram ?? null);
    app.complete = response.answers.every((answer) => answer.seen < asking.k);
    if (!app.state.codes && (app.state.picture || app.state.region)) {
      app.state.codes = response.query.codes; // from here on nothing is uploaded or encoded again
      history.replaceState(history.state, "", toAddress(app.state));
    }
    clearTimeout(slow);
    render();
    requestAnimationFrame(() => requestAnimationFrame(() => performance.measure("painted", "answer")));
  } catch (error) {
    clearTimeout(slow);
    if (error.name !== "AbortError") return failed(error, aborting);
  }
  return undefined;
}

/** Know the index. */
async function known() {
  if (app.info) return;
  app.info = await api.indexInfo();
  byId("index-name").textContent = `${printable(app.info.name)} · ${images(app.info.rows)}`;
  renderModel();
}

/** Send a request; a busy service is asked once more after as long as it says. */
async function send(asking, signal, again = true) {
  const { picture: id, ...rest } = asking;
  const picture = id ? await kept(id) : null;
  if (id && !picture) throw new api.Refused(404, "picture-forgotten", "The picture of this search is not in this browser, which keeps the newest 20: drop it again.");
  try {
    return withoutItself(app.state, await api.search(rest, picture, signal));
  } catch (error) {
    if (error.status !== 429 || !again) throw error;
    message("calm", "The service is busy", [`It asked for a pause of ${error.wait ?? 1} s; then this page asks again.`]);
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(error.wait ?? 1, 30)));
    signal.throwIfAborted();
    return send(asking, signal, false);
  }
}

function failed(error, aborting) {
  if (error.name === "AbortError") return;
  if (!(error instanceof api.Refused)) throw error;
  clearHits();
  if (error.status === 400 && app.state.where && /where|filter|label/.test(error.message)) filterIsWrong(error.message);
  explain(app, error);
  if (error.status === 401) askToken();
  if (error.status === 0 || error.status === 503) {
    const wait = WAITS[Math.min(app.tries++, WAITS.length - 1)];
    app.retry = setTimeout(() => {
      if (app.aborting === aborting) run();
    }, 1000 * wait);
  }
}

function clearHits() {
  app.response = null;
  app.histogram = null;
  app.complete = true;
  for (const id of ["bar", "end", "hero"]) byId(id).hidden = true;
  byId("hits").replaceChildren();
}

function renderSide() {
  renderQuery(app);
  renderRegion(app);
  renderControls(app);
  renderFilters(app);
}

function render() {
  noMessage();
  renderSide();
  renderHits(app);
  const { response, how } = app;
  const [answer] = response.answers;
  const found = response.answers.some((one) => one.hits.some((hit) => !isBeyond(app, one, hit)));
  byId("hits").hidden = !found;
  byId("bar").hidden = false;
  const searched = how.level === ALL ? `${how.levels.length} levels` : `level ${how.level}, ${bits(how.bits)}`;
  const filtered = app.state.where ? ` of ${count(response.rows)}` : "";
  const near = app.histogram && how.radius !== null ? `${images(within(app.histogram, how.radius))} within ${bits(how.radius)}, of ` : "";
  byId("summary").replaceChildren(el("span", {}, `${near}${images(answer.eligible)}${filtered}`), el("span", {}, searched), el("span", { class: "ms" }, milliseconds(response.ms.total ?? 0)));
  if (!found) nothing(app, answer, nearest());
  renderEnd();
}

/** The distance of the nearest image, whether or not it is shown. */
function nearest() {
  const far = app.histogram?.findIndex((rows) => rows > 0) ?? -1;
  return far >= 0 ? far : (app.response.answers[0].hits[0]?.distance ?? null);
}

function renderEnd() {
  const [answer] = app.response.answers;
  byId("end").hidden = !app.complete || byId("hits").hidden || app.how.level === ALL;
  byId("end").textContent = `That is all: ${images(answer.hits.length)}${app.how.radius === null ? "" : ` within ${bits(app.how.radius)}`}.`;
}

/** Fetch the next hits, while the end of those that are there is in sight. */
async function further() {
  const { response, aborting } = app;
  if (app.loading || app.complete || app.sliding || !response || byId("hits").hidden || !inSight()) return;
  app.loading = true;
  const step = app.how.level === ALL ? COLUMN : PAGE;
  const shown = Math.max(...response.answers.map((answer) => answer.seen));
  const most = (app.info.limits.hits ?? 10_000) - 1; // and the query itself
  try {
    const next = await send(request(shown, Math.min(step, most - shown)), aborting.signal);
    if (app.response !== response) return;
    response.answers.forEach((answer, at) => {
      answer.hits = [...answer.hits, ...next.answers[at].hits];
      answer.seen += next.answers[at].seen;
    });
    app.complete = next.answers.every((answer) => answer.seen < step) || shown + step >= most;
    more(app, next);
    renderEnd();
    history.replaceState({ ...history.state, shown: shown + step }, "");
  } catch (error) {
    if (error.name !== "AbortError") {
      app.complete = true;
      toast(printable(error.message));
    }
  } finally {
    app.loading = false;
  }
  further();
}

/** Whether the end of the hits is near: of the page, or on a phone of a row that is scrolled sideways. */
function inSight() {
  const lists = [...byId("hits").querySelectorAll(".column .hits")].filter((list) => getComputedStyle(list).display === "flex");
  if (lists.length) return lists.some((list) => list.scrollLeft > 0 && list.scrollLeft + 2 * list.clientWidth > list.scrollWidth);
  return byId("sentinel").getBoundingClientRect().top < innerHeight + 600;
}

async function renderHome(aborting) {
  document.title = "Hashgrain";
  clearHits();
  byId("hero").hidden = false;
  noMessage();
  if (!byId("samples").children.length) await renderSamples(aborting);
}

async function renderSamples(aborting) {
  try {
    const items = await api.randomItems(18);
    if (aborting?.signal.aborted) return;
    byId("samples").replaceChildren(...items.map(sample));
    byId("samples").querySelector("a")?.setAttribute("tabindex", "0");
    if (!items.length) message("calm", "The index is empty", ["Nothing has been added to it yet: indexer sync or indexer add brings pictures into it, and this page sees them at once."]);
  } catch (error) {
    failed(error, aborting);
  }
}

function sample(item) {
  remember(item.key, item.row, item.generation, item.labels);
  const image = el("img", { width: 192, height: 192, decoding: "async" });
  show(image, item.key, item, 150);
  const card = el("li", { class: "card" }, el("figure", {}, el("div", { class: "picture" }, el("a", { class: "frame", href: toAddress(asked(app.state, { key: item.key })), tabindex: "-1", title: printable(item.key) }, image))));
  card.dataset.key = item.key;
  return card;
}

function renderModel() {
  const can = app.info.has_model;
  for (const id of ["pick", "drop"]) byId(id).disabled = !can;
  if (!can) byId("drop-note").textContent = "This index was built without a model: search from its own pictures, or by their keys.";
}

async function take(file) {
  try {
    await known();
  } catch (error) {
    return failed(error, app.aborting);
  }
  const refusal = refusalOf(file, app.info);
  if (refusal) return refuse(refusal[1], refusal[0]);
  await ask({ picture: await keep(file), name: file.name || null });
}

function refuse(words, title = "That is not a picture") {
  clearHits();
  byId("hero").hidden = !isHome(app.state);
  message("wrong", title, [words], app.info?.has_model ? [["Choose a picture", () => byId("pick").click()]] : []);
}

async function random() {
  try {
    const [item] = await api.randomItems(1);
    if (!item) return toast("The index is empty");
    remember(item.key, item.row, item.generation, item.labels);
    return ask({ key: item.key });
  } catch (error) {
    return failed(error, app.aborting);
  }
}

function askToken() {
  byId("token-wrong").hidden = true;
  if (!byId("token").open) byId("token").showModal();
}

async function logIn(event) {
  event.preventDefault();
  try {
    await api.logIn(byId("token-text").value.trim());
    byId("token-text").value = "";
    byId("token").close();
    await run();
  } catch (error) {
    byId("token-wrong").textContent = error.status === 401 ? "That is not its token." : printable(error.message);
    byId("token-wrong").hidden = false;
  }
}

const SHORT = { u: () => byId("pick").click(), r: random, d: () => app.how && change({ question: app.state.question === "similar" ? "duplicate" : "similar", level: null, radius: null, cutoff: null }), b: () => !isHome(app.state) && begin(app, !isDrawing()), "?": () => byId("help").showModal(), "/": () => byId("key").focus() };

function onKey(event) {
  if (!app.keys() || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select, dialog")) return;
  const level = [ALL, ...LEVELS][event.key];
  if (level && app.how && !isHome(app.state) && (level === ALL || app.how.has.includes(level))) toLevel(level);
  else if (event.key in SHORT) {
    event.preventDefault();
    SHORT[event.key]();
  }
}

function setUp() {
  history.scrollRestoration = "manual";
  for (const part of [setUpControls, setUpFilters, setUpResults, setUpRegion, setUpCompare, setUpShare]) part(app);
  listen(take, refuse);
  byId("random").addEventListener("click", random);
  byId("others").addEventListener("click", () => renderSamples(null));
  byId("forget").addEventListener("click", () => change({ like: [], dislike: [] }, { push: true }));
  byId("brand").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    home();
  });
  byId("by-key").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key").value.trim();
    if (!key) return;
    byId("key").value = "";
    byId("key").blur();
    ask({ key });
  });
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("token-form").addEventListener("submit", logIn);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  }
  addEventListener("keydown", onKey);
  addEventListener("online", () => app.tries && run());
  addEventListener("popstate", async (event) => {
    app.state = fromAddress(location.search);
    app.response = null;
    begin(app, false);
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    await run({ shown: Math.min(event.state?.shown ?? 0, 600) });
    scrollTo({ top: event.state?.top ?? 0 });
  });
  let settled;
  addEventListener("scroll", () => {
    clearTimeout(settled);
    settled = setTimeout(() => history.replaceState({ ...history.state, top: Math.round(scrollY) }, ""), 150);
  }, { passive: true });
  byId("hits").addEventListener("scroll", further, { capture: true, passive: true });
  new IntersectionObserver(([entry]) => entry.isIntersecting && further(), { rootMargin: "600px" }).observe(byId("sentinel"));
  run({ shown: Math.min(history.state?.shown ?? 0, 600) }).then(() => scrollTo({ top: history.state?.top ?? 0 }));
}

setUp();
