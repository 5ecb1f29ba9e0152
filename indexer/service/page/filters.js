// Filters made of the index's label fields: values to tick, ranges, text; they write the filter's text, which stays editable.

import { baseOf, byId, el, printable } from "./text.js";
import { fromText, toText } from "./where.js";

const TICKED = 12; // values that are shown at once
let built = null;

export function setUpFilters(app) {
  byId("no-filter").addEventListener("click", () => app.change({ where: null }));
  byId("apply-where").addEventListener("click", () => app.change({ where: byId("where").value.trim() || null }));
  byId("where").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      byId("apply-where").click();
    }
  });
}

/** Show the fields of an index as a state has them. */
export function renderFilters(app) {
  const { state, info } = app;
  if (built !== info) {
    built = info;
    byId("fields").replaceChildren(...fields(info).map(([name, of, title]) => fieldset(app, name, of, title)));
  }
  const choices = state.where ? fromText(state.where) : {};
  byId("no-filter").hidden = !state.where;
  byId("where").value = state.where ?? "";
  if (state.where && !choices) byId("as-text").open = true;
  for (const place of byId("fields").children) place.write(choices?.[place.dataset.name] ?? {});
}

/** Say what is wrong with the filter's text; null: nothing. */
export function filterIsWrong(words) {
  byId("where-wrong").hidden = !words;
  byId("where-wrong").textContent = words ? printable(words) : "";
  byId("where").setAttribute("aria-invalid", String(Boolean(words)));
  if (words) byId("as-text").open = true;
}

function fields(info) {
  const of = info.label_fields;
  const shown = Object.keys(of).filter((name) => of[name].distinct > 1 && !(`${name}_name` in of));
  return [...shown.map((name) => [`label:${name}`, of[name], baseOf(name, of)]), ["key", { kind: "text", values: [], distinct: Infinity }, "key"]];
}

/** One field; `read()` gives its choice, `write(choice)` shows one. */
function fieldset(app, name, of, title) {
  const few = of.distinct <= of.values.length && of.values.length <= 50 && !(of.kind === "number" && of.distinct > TICKED);
  const body = few ? ticks(of) : of.kind === "number" ? range(of) : text();
  const now = el("span", { class: "now" });
  const place = el("details", { class: "field" }, el("summary", {}, el("span", {}, printable(title)), now), body.element);
  place.dataset.name = name;
  place.read = body.read;
  place.write = (choice) => {
    body.write(choice);
    now.textContent = printable(inWords(choice));
    if (inWords(choice)) place.open = true;
  };
  body.element.addEventListener("change", () => {
    const all = {};
    for (const each of byId("fields").children) all[each.dataset.name] = each.read();
    app.change({ where: toText(all) || null });
  });
  return place;
}

function inWords({ values, least, most, holds }) {
  if (values?.length) return values.length > 2 ? `${values.length} of them` : values.join(", ");
  if (least !== undefined || most !== undefined) return `${least ?? ""} to ${most ?? ""}`.trim();
  return holds ? `holds ${holds}` : "";
}

function ticks(of) {
  const list = of.kind.startsWith("list") || of.kind === "texts";
  const boxes = of.values.map((value) => [value, el("input", { type: "checkbox" })]);
  const chips = boxes.map(([value, box], at) => el("label", { class: "chip", hidden: at >= TICKED }, box, el("span", {}, printable(value))));
  const all = el("button", { type: "button", class: "quiet", onclick: () => {
    chips.forEach((chip) => (chip.hidden = false));
    all.remove();
  } }, `all ${chips.length}`);
  return {
    element: el("div", { class: "chips" }, ...chips, chips.length > TICKED ? all : null),
    read: () => ({ values: boxes.filter(([, box]) => box.checked).map(([value]) => value), list }),
    write: ({ values = [] }) => boxes.forEach(([value, box], at) => {
      box.checked = values.includes(value);
      if (box.checked) chips[at].hidden = false;
    }),
  };
}

function range(of) {
  const [least, most] = [["from", of.least], ["to", of.most]].map(([word, value]) => {
    const input = el("input", { type: "number", step: "any", placeholder: value === null ? "" : String(Number(Number(value).toPrecision(6))) });
    return [input, el("label", {}, `${word} `, input)];
  });
  const value = ([input]) => (input.value === "" || !Number.isFinite(input.valueAsNumber) ? undefined : input.valueAsNumber);
  return {
    element: el("div", { class: "range" }, least[1], most[1]),
    read: () => ({ least: value(least), most: value(most) }),
    write: (choice) => [[least, choice.least], [most, choice.most]].forEach(([[input], number]) => (input.value = number ?? "")),
  };
}

function text() {
  const input = el("input", { type: "text", maxlength: 200, autocomplete: "off", spellcheck: "false" });
  return {
    element: el("div", { class: "range" }, el("label", {}, "holds ", input)),
    read: () => ({ holds: input.value || undefined }),
    write: ({ holds = "" }) => (input.value = holds),
  };
}
