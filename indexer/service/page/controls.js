// How to search: the question, the level, the distance and its cut-off, and what the last answer cost.

import { colour, plot, within } from "./histogram.js";
import { ALL, LEVELS, NOTES } from "./state.js";
import { bits, byId, count, el, images, milliseconds, printable } from "./text.js";

const CUTOFFS = { "0.1": "1 false in 10 queries", "0.01": "1 false in 100 queries", "0.001": "1 false in 1,000 queries" };

export function setUpControls(app) {
  byId("question").addEventListener("change", (event) => app.change({ question: event.target.value, level: null, radius: null, cutoff: null }));
  const slider = byId("radius");
  slider.addEventListener("input", () => {
    renderRadius(app, Number(slider.value));
    app.preview(Number(slider.value));
  });
  slider.addEventListener("change", () => {
    const radius = Number(slider.value);
    const all = radius >= app.how.bits;
    app.change({ radius: all ? null : radius, cutoff: app.how.maxFalse || (all && app.how.duplicate) ? "off" : app.state.cutoff });
  });
  byId("cutoff").addEventListener("change", (event) => app.change({ cutoff: event.target.value || null, radius: null }));
  const wide = matchMedia("(min-width: 1000px)");
  const follow = () => (byId("options").open = wide.matches);
  wide.addEventListener("change", follow);
  follow();
}

/** Segments that choose a level: radio buttons. */
export function segments(place, name, levels, chosen, choose) {
  const row = place.querySelector(".row");
  if ([...row.querySelectorAll("input")].map((input) => input.value).join() !== levels.join()) {
    row.replaceChildren(...levels.map((level) => el("label", {}, el("input", { type: "radio", name, value: level, onchange: () => choose(level) }), el("span", {}, level))));
  }
  for (const input of row.querySelectorAll("input")) input.checked = input.value === chosen;
}

/** Show how a state is searched, and what its answer says of distances. */
export function renderControls(app) {
  const { state, how, info } = app;
  for (const input of byId("question").querySelectorAll("input")) input.checked = input.value === state.question;
  const levels = how.has.length > 1 ? [ALL, ...how.has] : how.has;
  segments(byId("levels"), "level", levels, how.level, app.toLevel);
  byId("level-note").textContent = `${NOTES[how.level]}`;
  byId("options-now").textContent = `${state.question}, ${how.level === ALL ? "all levels" : how.level}${state.where ? ", filtered" : ""}`;
  byId("distances").hidden = how.level === ALL;
  if (how.level !== ALL) renderDistances(app);
  renderNumbers(app, info);
}

function renderDistances(app) {
  const { how, histogram } = app;
  const slider = byId("radius");
  slider.max = how.bits;
  const cutoff = how.maxFalse !== null ? how.cutoffs[how.maxFalse] : how.mark;
  byId("plot").replaceChildren(...(histogram ? plot(histogram, cutoff) : []));
  const choices = Object.keys(CUTOFFS).filter((rate) => rate in how.cutoffs);
  byId("cutoff-line").hidden = !choices.length;
  byId("uncalibrated").hidden = choices.length > 0;
  const usual = how.duplicate ? [] : [["", "marked only"]];
  const each = [...usual, ...choices.map((rate) => [rate, CUTOFFS[rate]]), ["off", "off"]];
  byId("cutoff").replaceChildren(...each.map(([value, words]) => el("option", { value }, words)));
  byId("cutoff").value = how.maxFalse ?? (app.state.cutoff === "off" || how.duplicate ? "off" : "");
  renderRadius(app, how.radius ?? (how.maxFalse !== null ? Math.max(0, cutoff) : how.bits));
}

/** Show a radius while it is being moved: the histogram knows how many are within it, so nothing is asked. */
function renderRadius(app, radius) {
  const { how, histogram } = app;
  const slider = byId("radius");
  slider.value = radius;
  const all = radius >= how.bits;
  byId("radius-now").textContent = all ? "any" : `up to ${bits(radius)}`;
  slider.setAttribute("aria-valuetext", all ? "any distance" : `up to ${bits(radius)} of ${how.bits}`);
  slider.style.setProperty("--part", how.bits ? radius / how.bits : 1);
  colour(byId("plot"), radius);
  byId("inside").textContent = histogram ? (all ? images(within(histogram, how.bits)) : `${count(within(histogram, radius))} of ${images(within(histogram, how.bits))}`) : "";
}

function renderNumbers(app, info) {
  const { response } = app;
  const facts = [["index", `${printable(info.name)}, ${images(info.rows)}`], ["levels", LEVELS.filter((level) => level in info.levels).map((level) => `${level} ${info.levels[level].bits}`).join(", ") + " bits"]];
  if (response) {
    facts.push(["generation", printable(response.generation)], ["answered together", String(response.batch)]);
    for (const [stage, ms] of Object.entries(response.ms)) facts.push([stage, milliseconds(ms)]);
  }
  facts.push(["model", printable(info.fingerprint.slice(0, 12))]);
  byId("facts").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, printable(name)), el("dd", {}, value))));
}
