// The hits: a grid of one level, or a column per level. A click on a hit searches from it.

import { remember, show } from "./pictures.js";
import { ownLabels } from "./query.js";
import { ALL, asked, cutoffsOf, NOTES, toAddress } from "./state.js";
import { baseOf, bits, byId, el, icon, labelTexts, printable } from "./text.js";

/** Draw the answers of a response anew. */
export function renderHits(app) {
  const { how, response } = app;
  const place = byId("hits");
  place.className = how.level === ALL ? "columns" : "";
  place.replaceChildren(...response.answers.map((answer) => block(app, answer)));
  more(app, response);
}

function block(app, answer) {
  const list = el("ul", { class: "hits", "aria-label": `Hits at level ${answer.level}` });
  list.dataset.level = answer.level;
  if (app.how.level !== ALL) return list;
  const title = el("button", { type: "button", class: "quiet", onclick: () => app.toLevel(answer.level) }, answer.level);
  return el("section", { class: "column", "aria-label": answer.level }, el("header", {}, el("h2", {}, title), el("p", { class: "note" }, NOTES[answer.level])), list);
}

/** Put the hits of a further response behind those that are there. */
export function more(app, response) {
  for (const answer of response.answers) {
    const list = [...byId("hits").querySelectorAll("ul.hits")].find((one) => one.dataset.level === answer.level);
    if (!list) continue;
    const cards = answer.hits.map((hit) => card(app, answer, hit, response));
    const first = answer.hits.findIndex((hit) => isBeyond(app, answer, hit));
    if (first >= 0 && !list.querySelector(".line-of-chance")) cards.splice(first, 0, line(app, answer));
    list.append(...cards);
    if (!list.querySelector('a[tabindex="0"]')) list.querySelector("a.frame")?.setAttribute("tabindex", "0");
  }
}

/** The distance from which on hits of an answer are marked. */
const markOf = (app, answer) => (app.how.level === ALL ? (app.state.cutoff === "off" ? null : cutoffsOf(app.info.levels[answer.level])["0.01"] ?? null) : app.how.mark);

export const isBeyond = (app, answer, hit) => hit.beyond || (markOf(app, answer) !== null && hit.distance > markOf(app, answer));

/** A line before the first hit that may be there by chance. */
function line(app, answer) {
  const radius = answer.cutoff?.radius ?? markOf(app, answer);
  const words = app.how.level === ALL ? `beyond ${bits(radius)}: maybe chance` : `Beyond ${bits(radius)} it may be chance: so near comes an unrelated image once in 100 queries`;
  return el("li", { class: "line-of-chance" }, el("span", {}, words));
}

function card(app, answer, hit, response) {
  remember(hit.key, hit.row, response.generation, hit.labels);
  const name = printable(hit.key);
  const heading = hit.score === null ? bits(hit.distance) : `${bits(hit.distance)}`;
  const labels = labelTexts(hit.labels);
  const shared = sharedFields(app, hit.labels);
  const both = comparedFields(app).filter((field) => field in ownLabels(app));
  const kind = shared.size === 0 ? "" : both.every((field) => shared.has(field)) ? "all" : "some";
  const image = el("img", { width: 192, height: 192, loading: "lazy", decoding: "async", draggable: "true" });
  const link = el("a", { class: "frame", href: toAddress(asked(app.state, { key: hit.key })), tabindex: "-1", title: name }, image);
  show(image, hit.key, { row: hit.row, generation: response.generation }, 150);
  image.alt = `${name}, ${heading}`;
  const votes = el("div", { class: "acts" }, act(app, hit, "like"), act(app, hit, "dislike"), act(app, hit, "heat"));
  const meter = el("div", { class: "meter", "aria-hidden": "true" }, el("i"));
  const nbits = app.info.levels[answer.level].bits;
  meter.style.setProperty("--part", Math.min(1, hit.distance / (nbits / 2))); // unrelated pictures differ in about half of the bits
  const words = el("figcaption", {}, el("div", { class: "heading" }, heading), el("div", { class: "name" }, name),
    el("div", { class: "labels" }, ...labels.map(({ field, text }) => el("span", { class: `label${shared.has(field) ? " shared" : ""}`, title: printable(`${field}: ${text}`) }, printable(text)))));
  const item = el("li", { class: `card ${kind}${isBeyond(app, answer, hit) ? " beyond" : ""}` }, el("figure", {}, el("div", { class: "picture" }, link, votes), meter, words));
  Object.assign(item.dataset, { key: hit.key, distance: hit.distance, level: answer.level });
  return item;
}

const ACTS = { like: ["more", "More like"], dislike: ["less", "Less like"], heat: ["heat", "Why is this near:"] };

function act(app, hit, what) {
  const [symbol, words] = ACTS[what];
  const pressed = what === "heat" ? null : String(app.state[what].includes(hit.key));
  return el("button", { type: "button", tabindex: "-1", "data-act": what, "aria-label": `${words} ${printable(hit.key)}`, "aria-pressed": pressed, title: words.replace(":", "?") }, icon(symbol));
}

/** Fields that say something: not one value for all, and not one value for each. */
function comparedFields(app) {
  const fields = app.info.label_fields;
  const sample = Math.min(app.info.rows, 1000);
  return [...new Set(Object.keys(fields).filter((name) => fields[name].distinct > 1 && fields[name].distinct < 0.9 * sample).map((name) => baseOf(name, fields)))];
}

/** Those of them that a hit has in common with the query, by the number or by its name. */
function sharedFields(app, theirs) {
  const mine = ownLabels(app);
  const same = (a, b) => a !== undefined && b !== undefined && [a].flat().some((value) => [b].flat().includes(value));
  return new Set(comparedFields(app).filter((field) => [field, `${field}_name`].some((name) => same(mine[name], theirs[name]))));
}

/** Hide at once what a smaller radius leaves out, while the slider moves. */
export function preview(radius) {
  for (const item of byId("hits").querySelectorAll(".card")) item.hidden = Number(item.dataset.distance) > radius;
}

/** Grey frames, while an answer takes its time. */
export function skeleton(app) {
  const place = byId("hits");
  place.className = "";
  const frame = () => el("li", { class: "waiting" }, el("div", { class: "frame" }), el("div", { class: "meter" }));
  place.replaceChildren(el("ul", { class: "hits", "aria-hidden": "true" }, ...Array.from({ length: 18 }, frame)));
}

/** Clicks and keys on hits. */
export function setUpResults(app) {
  const place = byId("results");
  place.addEventListener("click", (event) => {
    const item = event.target.closest(".card");
    const button = event.target.closest("[data-act]");
    if (!item) return;
    if (button) return button.dataset.act === "heat" ? app.compare(item) : app.vote(item.dataset.key, button.dataset.act);
    if (!event.target.closest("a.frame") || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    app.ask({ key: item.dataset.key });
  });
  place.addEventListener("focusin", (event) => {
    const link = event.target.closest("a.frame");
    if (!link) return;
    for (const other of link.closest("ul").querySelectorAll('a.frame[tabindex="0"], [data-act][tabindex="0"]')) other.setAttribute("tabindex", "-1");
    link.setAttribute("tabindex", "0");
    for (const button of link.parentElement.querySelectorAll("[data-act]")) button.setAttribute("tabindex", "0");
  });
  place.addEventListener("keydown", (event) => {
    const item = event.target.closest(".card");
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = neighbour(item, event.key);
    if (to) {
      event.preventDefault();
      to.querySelector("a.frame").focus();
    } else if (app.keys() && "+-h".includes(event.key) && item.closest("#hits")) {
      event.preventDefault();
      if (event.key === "h") app.compare(item);
      else app.vote(item.dataset.key, event.key === "+" ? "like" : "dislike");
    }
  });
}

/** The card that an arrow leads to. */
function neighbour(item, key) {
  const cards = [...item.closest("ul").querySelectorAll(".card:not([hidden])")];
  const at = cards.indexOf(item);
  if (key === "ArrowRight") return cards[at + 1];
  if (key === "ArrowLeft") return cards[at - 1];
  if (key === "Home") return cards[0];
  if (key === "End") return cards.at(-1);
  if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
  const here = item.getBoundingClientRect();
  const way = key === "ArrowDown" ? 1 : -1;
  return cards.filter((other) => (other.offsetTop - item.offsetTop) * way > 4)
    .sort((a, b) => Math.abs(a.offsetTop - item.offsetTop) - Math.abs(b.offsetTop - item.offsetTop) || Math.abs(a.getBoundingClientRect().left - here.left) - Math.abs(b.getBoundingClientRect().left - here.left))[0];
}
