// The dialog that hands a search on: copied as words, or its hits as files.

import { csv, phrases } from "./phrases.js";
import { source } from "./state.js";
import { byId, el, printable, toast } from "./text.js";

export function setUpShare(app) {
  byId("share-button").addEventListener("click", () => {
    byId("phrases").replaceChildren(...phrases(sayable(app), app.how, location.origin, app.state).map(([title, text]) => phrase(title, text)));
    byId("share").showModal();
  });
  byId("copy-link").addEventListener("click", () => copy(location.href));
  byId("save-json").addEventListener("click", () => save("hits.json", "application/json", JSON.stringify(app.whole(), null, 1)));
  byId("save-csv").addEventListener("click", () => save("hits.csv", "text/csv", csv(app.whole().answers)));
}

/** The request as a person would say it: by its key where it has one, not by the codes that were made of it. */
function sayable({ state, how, request }) {
  const { codes, key, picture, region, region_mode: mode, exclude_self: itself, ...rest } = request();
  if (itself === false) rest.k -= 1; // the page leaves it out; elsewhere the service does
  return { ...(state.key ? source({ ...state, codes: null }, how) : { codes, picture, region, region_mode: mode }), ...rest };
}

function phrase(title, text) {
  return el("section", { class: "phrase", "aria-label": title }, el("div", { class: "split" }, el("h3", {}, title), el("button", { type: "button", "aria-label": `Copy as ${title}`, onclick: () => copy(text) }, "Copy")), el("pre", { tabindex: "0" }, el("code", {}, printableLines(text))));
}

const printableLines = (text) => text.split("\n").map(printable).join("\n");

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not let a page copy; select the text");
  }
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
