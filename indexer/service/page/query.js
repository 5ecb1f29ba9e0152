// The query's card: its picture, name and labels, and the pictures that were liked and disliked.

import { kept, labelsOf, placeOf, show } from "./pictures.js";
import { byId, el, icon, labelTexts, printable } from "./text.js";

let shown = null; // what the picture is of
let url = null; // of a picture of this browser

/** Draw the card of what is looked for. */
export async function renderQuery(app) {
  const { state } = app;
  byId("query-name").textContent = nameOf(state);
  byId("query-labels").replaceChildren(...labelTexts(ownLabels(app)).map(({ text }) => el("span", { class: "label" }, printable(text))));
  renderExamples(app);
  const own = state.key ?? state.picture ?? state.like[0] ?? "code";
  if (shown === own) return;
  shown = own;
  const image = byId("query-image");
  image.onload = () => image.parentElement.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  image.parentElement.querySelector(".gone")?.remove();
  image.hidden = false;
  if (url) URL.revokeObjectURL(url);
  url = null;
  const key = state.key ?? (state.picture || state.codes ? null : state.like[0]);
  const file = state.picture && !state.key ? await kept(state.picture) : null;
  if (shown !== own) return;
  if (key) {
    try {
      const place = await placeOf(key);
      if (shown === own) show(image, key, place, 280);
    } catch {
      if (shown === own) missing(image, "its picture was not found");
    }
  } else if (file) {
    url = URL.createObjectURL(file);
    image.alt = printable(file.name ?? "picture");
    image.onerror = () => missing(image, "this browser cannot show it; the service may");
    image.src = url;
  } else {
    missing(image, "the picture is not in this browser; its code is in the address");
  }
}

/** Labels of what is looked for. */
export const ownLabels = ({ state, response }) => (state.key ? { ...labelsOf(state.key), ...response?.query.labels } : (response?.query.labels ?? {}));

function missing(image, why) {
  image.onerror = null;
  image.removeAttribute("src");
  image.hidden = true;
  image.after(el("span", { class: "gone" }, why));
}

/** How a query is called. */
export function nameOf(state) {
  return printable(state.key ?? state.name ?? (state.picture ? "your picture" : state.like.length ? "your examples" : "a code"));
}

function renderExamples(app) {
  const { like, dislike } = app.state;
  byId("examples").hidden = !like.length && !dislike.length;
  for (const [vote, keys, list, line] of [["like", like, "liked", "liked-line"], ["dislike", dislike, "disliked", "disliked-line"]]) {
    byId(line).hidden = !keys.length;
    const there = new Map([...byId(list).children].map((item) => [item.dataset.key, item]));
    byId(list).replaceChildren(...keys.map((key) => there.get(key) ?? example(app, key, vote)));
  }
}

function example(app, key, vote) {
  const image = el("img", { alt: "", width: 44, height: 44 });
  placeOf(key).then((place) => show(image, key, place, 44), () => (image.alt = printable(key)));
  const item = el("li", { title: printable(key) }, image, el("button", {
    type: "button", "aria-label": `No longer ${vote === "like" ? "more" : "less"} like ${printable(key)}`, onclick: () => app.vote(key, vote),
  }, icon("close")));
  item.dataset.key = key;
  return item;
}
