// Why a hit is near: both pictures side by side, heat maps of what the agreeing bits rest on, and the bits that differ at each level.

import { explain, itemOf } from "./api.js";
import { paint } from "./heat.js";
import { kept, originalOf, placeOf, show } from "./pictures.js";
import { segments } from "./controls.js";
import { asked, LEVELS, toAddress } from "./state.js";
import { bits, byId, count, el, printable } from "./text.js";

let item = null; // the hit's card
let level = null;
let asking = null;

export function setUpCompare(app) {
  const dialog = byId("compare");
  for (const button of dialog.querySelectorAll("[data-step]")) button.addEventListener("click", () => step(app, Number(button.dataset.step)));
  for (const button of dialog.querySelectorAll("[data-vote]")) {
    button.addEventListener("click", () => {
      dialog.close();
      app.vote(item.dataset.key, button.dataset.vote);
    });
  }
  byId("heat-on").addEventListener("change", (event) => dialog.classList.toggle("plain", !event.target.checked));
  byId("compare-search").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    dialog.close();
    app.ask({ key: item.dataset.key });
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("[type=radio]")) return;
    if (event.key === "ArrowRight") step(app, 1);
    if (event.key === "ArrowLeft") step(app, -1);
  });
  dialog.addEventListener("close", () => asking?.abort());
}

function step(app, by) {
  const cards = [...item.closest("ul").querySelectorAll(".card:not([hidden])")];
  const next = cards[cards.indexOf(item) + by];
  if (next) open(app, next);
}

/** Open the dialog on a hit. */
export async function open(app, card) {
  item = card;
  level ??= card.dataset.level;
  const key = card.dataset.key, name = printable(key);
  if (!byId("compare").open) {
    level = card.dataset.level;
    byId("compare").showModal();
  }
  byId("compare-name").textContent = `${name}`;
  byId("compare-search").href = toAddress(asked(app.state, { key }));
  byId("compare-bits").replaceChildren();
  segments(byId("compare-levels"), "compare-level", app.how.has, level, (chosen) => {
    level = chosen;
    heat(app, key);
  });
  const seen = byId("seen-hit").querySelector("img");
  clear(seen);
  const place = await placeOf(key);
  show(seen, key, place, 384);
  byId("compare-open").href = originalOf(place);
  const query = byId("seen-query").querySelector("img"), shown = byId("query-image");
  clear(query);
  query.alt = shown.alt;
  if (shown.hidden) query.hidden = true;
  else query.src = shown.src.replace(/side=\d+/, "side=384");
  heat(app, key);
  renderBits(app, key);
}

function clear(image) {
  image.onload = () => image.parentElement.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  image.parentElement.querySelector(".gone")?.remove();
  image.hidden = false;
  image.nextElementSibling?.getContext?.("2d").clearRect(0, 0, 999, 999);
}

async function heat(app, key) {
  asking?.abort();
  asking = new AbortController();
  const words = byId("compare-words");
  const canvases = ["seen-query", "seen-hit"].map((id) => byId(id).querySelector("canvas"));
  const query = await querySource(app);
  canvases.forEach((canvas) => (canvas.hidden = true));
  if (!query) {
    words.textContent = "A heat map needs the query's picture, and only its code is here. Drop the picture again to see one.";
    return;
  }
  words.textContent = "Working out what the agreeing bits rest on…";
  try {
    const found = await explain(query, key, level, asking.signal);
    paint(canvases[0], found.query);
    paint(canvases[1], found.hit);
    canvases.forEach((canvas) => (canvas.hidden = false));
    words.textContent = `${found.agreeing} of ${bits(found.bits)} agree at level ${found.level}. The bright places are what these rest on.`;
  } catch (error) {
    if (error.name !== "AbortError") words.textContent = printable(error.message);
  }
}

async function querySource(app) {
  const { state } = app;
  if (state.key) return { key: state.key };
  const picture = state.picture && (await kept(state.picture));
  return picture ? { picture } : state.like.length && !state.codes ? { key: state.like[0] } : null;
}

/** Bits that differ, by level. */
async function renderBits(app, key) {
  const mine = app.state.codes ?? app.response.query.codes;
  const theirs = (await itemOf(key).catch(() => null))?.codes ?? {};
  if (item.dataset.key !== key) return;
  const levels = LEVELS.filter((name) => mine[name] && theirs[name]);
  byId("compare-bits").replaceChildren(...levels.map((name) => {
    const nbits = app.info.levels[name].bits, apart = hamming(mine[name], theirs[name]);
    const meter = el("div", { class: "meter", "aria-hidden": "true" }, el("i"));
    meter.style.setProperty("--part", Math.min(1, apart / (nbits / 2)));
    return el("div", {}, el("dt", {}, name), el("dd", {}, meter, `${count(apart)} of ${bits(nbits)} differ`));
  }));
}

/** Bits in which two hexadecimal codes differ. */
export function hamming(a, b) {
  let sum = 0;
  for (let at = 0; at < a.length; at++) {
    let differ = parseInt(a[at], 16) ^ parseInt(b[at], 16);
    for (; differ; differ &= differ - 1) sum++;
  }
  return sum;
}
