// How many rows are at each distance: bars above the slider, and the same as a table for who cannot see them.

import { count, drawn, el } from "./text.js";

const WIDTH = 256, HEIGHT = 56;

/** Rows within a radius. */
export const within = (histogram, radius) => histogram.slice(0, radius + 1).reduce((sum, rows) => sum + rows, 0);

/** Bars of rows by distance; heights go by the square root, so that the few near ones can be seen beside the many far ones. */
export function plot(histogram, cutoff) {
  const wide = WIDTH / histogram.length;
  const most = Math.sqrt(Math.max(1, ...histogram));
  const bars = histogram.map((rows, distance) => {
    const height = rows ? Math.max(1.5, (HEIGHT * Math.sqrt(rows)) / most) : 0;
    return drawn("rect", { x: distance * wide + wide * 0.1, y: HEIGHT - height, width: wide * 0.8, height, rx: Math.min(1, wide * 0.3) });
  });
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars);
  if (cutoff !== null) {
    const x = (cutoff + 1) * wide;
    picture.append(drawn("line", { class: "cutoff", x1: x, x2: x, y1: 0, y2: HEIGHT }));
  }
  return [picture, table(histogram)];
}

/** Colour the bars within a radius. */
export function colour(place, radius) {
  place.querySelectorAll("rect").forEach((bar, distance) => bar.classList.toggle("in", distance <= radius));
}

function table(histogram) {
  const step = Math.max(1, Math.round((histogram.length - 1) / 16));
  const rows = [];
  for (let radius = 0; radius < histogram.length; radius += step) {
    rows.push(el("tr", {}, el("th", { scope: "row" }, `${radius} bits`), el("td", {}, count(within(histogram, radius)))));
  }
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "distance at most"), el("th", { scope: "col" }, "images")));
  return el("table", { class: "unseen" }, el("caption", {}, "Images by distance"), head, el("tbody", {}, ...rows));
}
