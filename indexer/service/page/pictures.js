// Pictures: of rows, from the service, and of this browser's own queries, which it keeps so that a page that is loaded again has them.

import { itemOf, Refused } from "./api.js";
import { el, printable } from "./text.js";

const KEPT = 20;
const known = new Map(); // key -> {row, generation, labels}

/** Remember where a key stands. */
export const remember = (key, row, generation, labels) => known.set(key, { row, generation, labels });

/** The labels of a key that was seen. */
export const labelsOf = (key) => known.get(key)?.labels ?? {};

/** Where a key stands, asked for if need be. */
export async function placeOf(key) {
  if (!known.has(key)) {
    const item = await itemOf(key);
    remember(key, item.row, item.generation, item.labels);
  }
  return known.get(key);
}

const address = (kind, place, side) =>
  `/v1/${kind}/${place.row}?generation=${encodeURIComponent(place.generation)}${side ? `&side=${side}` : ""}`;

export const originalOf = (place) => address("images", place);

/** Sides in pixels that the service makes. */
const SIDES = [96, 192, 384, 1024];

/** The side that fills so many points on this screen. */
const sideFor = (points) => SIDES.find((side) => side >= points * Math.min(devicePixelRatio || 1, 2)) ?? SIDES.at(-1);

/** Show the picture of a key; where a newer generation took the place of the one known, the key is looked up again. */
export function show(img, key, place, points) {
  img.alt = printable(key);
  img.src = address("thumbnails", place, sideFor(points));
  img.onerror = async () => {
    img.onerror = () => gone(img, "it is not where it was");
    try {
      await (await fetch(img.src)).json().then((problem) => {
        throw new Refused(problem.status, problem.reason, problem.detail);
      });
    } catch (error) {
      if (error.status !== 410) return gone(img, error.status ? error.message : "it could not be read");
      known.delete(key);
      try {
        img.src = address("thumbnails", await placeOf(key), sideFor(points));
      } catch {
        gone(img, "it was removed from the index");
      }
    }
  };
}

function gone(img, why) {
  img.onerror = null;
  img.hidden = true;
  const words = el("span", { class: "gone", title: printable(why) }, el("span", {}, "picture gone"), el("small", {}, printable(why)));
  img.parentElement?.querySelector(".gone")?.remove();
  img.after(words);
}

const inMemory = new Map();

/** Keep a picture under a new name; the newest few stay. */
export async function keep(file) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  inMemory.set(id, file);
  try {
    const store = await opened("readwrite");
    store.put({ id, file, when: Date.now() });
    const all = await done(store.getAll());
    all.sort((a, b) => b.when - a.when).slice(KEPT).forEach((old) => store.delete(old.id));
  } catch { /* a private window keeps nothing: the page has it while it is open */ }
  return id;
}

/** A picture that was kept, or null. */
export async function kept(id) {
  if (inMemory.has(id)) return inMemory.get(id);
  try {
    return (await done((await opened("readonly")).get(id)))?.file ?? null;
  } catch {
    return null;
  }
}

function opened(mode) {
  const request = indexedDB.open("hashgrain", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("pictures", { keyPath: "id" });
  return done(request).then((database) => database.transaction("pictures", mode).objectStore("pictures"));
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
