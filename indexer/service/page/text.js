// Words and elements. What others wrote (keys, labels, messages) comes to the page through `printable` and as text, never as markup.

const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

/** Text with control characters, and those that turn the direction of writing or cannot be seen, as escapes. */
export function printable(text) {
  return String(text).replace(ODD, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** An element with properties or attributes, and children: elements, or text. */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** One of the icons that the page holds. */
export function icon(name) {
  return drawn("svg", { class: "icon", "aria-hidden": "true" }, drawn("use", { href: `#i-${name}` }));
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

export const count = (number) => number.toLocaleString("en");
export const bits = (number) => (number === 1 ? "1 bit" : `${number} bits`);
export const images = (number) => (number === 1 ? "1 image" : `${count(number)} images`);
export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** What is shown for each label, words first: its name where it has one (`class_name`); anything else needs the field beside it. */
export function labelTexts(labels) {
  const words = [], others = [];
  for (const [field, value] of Object.entries(labels ?? {})) {
    if (baseOf(field, labels) !== field) continue;
    const named = labels[`${field}_name`] ?? value;
    if (Array.isArray(named) ? named.length === 0 : named === null) continue;
    if (typeof named === "string" || Array.isArray(named)) words.push({ field, text: [named].flat().join(", ") });
    else others.push({ field, text: `${field} ${typeof named === "number" && !Number.isInteger(named) ? Number(named.toPrecision(6)) : named}` });
  }
  const said = new Set();
  return [...words, ...others].filter(({ text }) => !said.has(text) && said.add(text));
}

/** `fine` for `fine_name` where both are there. */
export function baseOf(field, fields) {
  const number = field.endsWith("_name") ? field.slice(0, -"_name".length) : field;
  return number in fields ? number : field;
}

/** A short word to a person that goes away by itself. */
export function toast(words) {
  const place = byId("toast");
  place.textContent = words;
  place.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => place.classList.remove("shown"), 2500);
}
