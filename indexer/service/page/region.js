// A box on the query's picture, by pointer, by arrow keys or in numbers: shares of the picture, 0 to 1.

import { byId } from "./text.js";

const LEAST = 1 / 32;
const FIELDS = ["region-x", "region-y", "region-w", "region-h"];
let drawing = false;
let region = null;

export function setUpRegion(app) {
  const stage = byId("stage"), box = byId("box");
  byId("draw").addEventListener("click", () => begin(app, !drawing));
  byId("whole").addEventListener("click", () => {
    drawing = false;
    app.change({ region: null, codes: app.state.picture || app.state.key ? null : app.state.codes }, { push: true });
  });
  byId("region-go").addEventListener("click", () => search(app));
  byId("region-mode").addEventListener("change", (event) => {
    if (app.state.region) app.change({ mode: event.target.value || null, codes: null }, { push: true });
  });
  for (const id of FIELDS) {
    byId(id).addEventListener("input", () => {
      const [x, y, width, height] = FIELDS.map((field) => Number(byId(field).value) / 100);
      set(inside([x, y, width, height]), { fields: false });
    });
  }
  let start = null;
  stage.addEventListener("pointerdown", (event) => {
    if (!drawing || event.button) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    start = at(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (start) set(between(start, at(event)));
  });
  stage.addEventListener("pointerup", (event) => {
    if (!start) return;
    const drawn = between(start, at(event));
    start = null;
    if (drawn[2] > LEAST && drawn[3] > LEAST) {
      set(drawn);
      search(app);
    }
  });
  stage.addEventListener("pointercancel", () => (start = null));
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]?.map((way) => way / 50);
    if (event.key === "Enter") search(app);
    if (!step || !region) return;
    event.preventDefault();
    const [x, y, width, height] = region;
    set(inside(event.shiftKey ? [x, y, width + step[0], height + step[1]] : [clamp(x + step[0], 0, 1 - width), clamp(y + step[1], 0, 1 - height), width, height]));
  });
}

/** Begin to draw, or stop. */
export function begin(app, on) {
  drawing = on;
  if (on && !region) set([0.25, 0.25, 0.5, 0.5]);
  if (!on) region = app.state.region;
  renderRegion(app);
  if (on) byId("box").focus({ preventScroll: true });
}

export const isDrawing = () => drawing;

/** Show the region of a state. */
export function renderRegion(app) {
  const possible = Boolean(app.state.key || app.state.picture) && (app.state.key || app.info?.has_model);
  byId("draw").hidden = !possible;
  byId("draw").setAttribute("aria-pressed", String(drawing));
  byId("draw").querySelector("span").textContent = drawing ? "Stop drawing" : app.state.region ? "Change the region" : "Draw a region";
  byId("whole").hidden = !app.state.region;
  byId("region-numbers").hidden = !drawing;
  byId("stage").classList.toggle("drawing", drawing);
  byId("region-mode").value = app.state.mode ?? "";
  set(drawing ? (region ?? app.state.region) : app.state.region);
}

function search(app) {
  drawing = false;
  app.change({ region, codes: null, mode: byId("region-mode").value || null }, { push: true });
}

function set(next, { fields = true } = {}) {
  region = next;
  const box = byId("box");
  box.hidden = !region;
  if (!region) return;
  ["left", "top", "width", "height"].forEach((side, at) => (box.style[side] = `${100 * region[at]}%`));
  if (fields) FIELDS.forEach((id, at) => (byId(id).value = Math.round(100 * region[at])));
}

function at(event) {
  const frame = byId("query-image").getBoundingClientRect();
  return [clamp((event.clientX - frame.left) / frame.width, 0, 1), clamp((event.clientY - frame.top) / frame.height, 0, 1)];
}

const between = ([ax, ay], [bx, by]) => inside([Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)]);

function inside([x, y, width, height]) {
  const left = clamp(x, 0, 1 - LEAST), top = clamp(y, 0, 1 - LEAST);
  return [left, top, clamp(width, LEAST, 1 - left), clamp(height, LEAST, 1 - top)];
}

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
