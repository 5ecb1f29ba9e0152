// States in which there are no hits: what happened, and what to do about it.

import { bits, byId, count, el, images, printable } from "./text.js";

/** Show a message with buttons: [[words, what to do], ...]; the first is the one that is meant. */
export function message(kind, title, words, buttons = []) {
  const place = byId("message");
  place.className = `message ${kind}`;
  place.setAttribute("role", kind === "wrong" ? "alert" : "status");
  place.replaceChildren(el("h2", {}, title), ...words.map((line) => el("p", {}, printable(line))), el("div", { class: "buttons" }, ...buttons.map(([name, act], at) => el("button", { type: "button", class: at ? null : "main-button", onclick: act }, name))));
  place.hidden = false;
}

export const noMessage = () => (byId("message").hidden = true);

/** No hit is near enough, or none at all: say why, and what would show some. */
export function nothing(app, answer, nearest) {
  const { state, how } = app;
  const unfilter = ["Remove the filter", () => app.change({ where: null })];
  if (answer.eligible === 0) {
    return message("calm", "No image passes the filter", [`It is: ${state.where}`], state.where ? [unfilter] : []);
  }
  const limit = how.maxFalse !== null ? answer.cutoff?.radius ?? how.cutoffs[how.maxFalse] : how.radius ?? how.mark;
  const far = nearest === null ? "" : ` The nearest of ${images(answer.eligible)} is ${bits(nearest)} away.`;
  const anyway = ["Show the nearest anyway", () => app.change({ radius: null, cutoff: "off" })];
  if (how.duplicate) {
    return message("calm", "No duplicate", [`Copies of one picture differ in up to ${bits(limit)} of ${how.bits} at level ${how.level}.${far}`], [["Look for similar ones", () => app.change({ question: "similar", level: null, radius: null, cutoff: null })], anyway]);
  }
  if (how.radius !== null) {
    return message("calm", "Nothing so near", [`No image is within ${bits(how.radius)}.${far}`], [["Any distance", () => app.change({ radius: null })], ...(state.where ? [unfilter] : [])]);
  }
  const rate = how.maxFalse === null ? "1 in 100" : { 0.1: "1 in 10", 0.01: "1 in 100", 0.001: "1 in 1,000" }[how.maxFalse];
  return message("calm", "Nothing similar", [`Unrelated images come within ${bits(Math.max(limit, 0))} once in ${rate.slice(5)} queries; what is farther may be chance.${far}`], [anyway, ...(state.where ? [unfilter] : [])]);
}

/** What to say of a request that failed, and what can be done. */
export function explain(app, error) {
  const again = ["Try again", () => app.run()];
  const other = ["Choose another picture", () => byId("pick").click()];
  const home = ["Start again", () => app.home()];
  switch (error.status) {
    case 0:
      return message("wrong", "The service does not answer", ["It may have been stopped, or this computer is offline. This page asks again by itself; what you looked for is kept.", "It is started by: indexer serve"], [again]);
    case 401:
      return message("wrong", "This service asks for its token", ["Whoever started it has it."], [["Enter the token", () => app.askToken()]]);
    case 403:
      return message("wrong", "That is not allowed", [error.message], [home]);
    case 404:
      return error.reason === "key-unknown"
        ? message("wrong", "There is no such picture", [error.message, "Keys are spelled as in the collection; it may also have been removed."], [["A random picture", () => byId("random").click()], home])
        : message("wrong", "The picture is gone", [error.message, "It is not in the place where it was when it was encoded. Its code is still in the index: search from another picture, or put the file back."], [["A random picture", () => byId("random").click()], home]);
    case 408:
      return message("wrong", "The picture came too slowly", [error.message], [again, other]);
    case 410:
      return message("wrong", "The index has changed", ["What was shown is of an earlier state of it."], [again]);
    case 413:
      return message("wrong", "The picture is too large", [error.message, `This service takes up to ${megabytes(app.info)}.`], [other]);
    case 415:
    case 422:
      return error.reason.startsWith("model")
        ? message("wrong", "Pictures cannot be encoded here", [error.message, "Search from a picture of the index, or by its key."], [["A random picture", () => byId("random").click()]])
        : message("wrong", "This is not a picture that can be read", [error.message], [other]);
    case 429:
      return message("wrong", "The service is busy", ["As much is waiting as may. It was asked a second time after a pause."], [again]);
    case 503:
      return message("wrong", "The service is not ready", [error.message, "It is starting, or about to stop. This page asks again by itself."], [again]);
    case 400:
      return message("wrong", "That cannot be searched for", [error.message], [["Reset the options", () => app.change({ radius: null, cutoff: null, level: null, where: null })], home]);
    default:
      return message("wrong", `The service failed (${error.status})`, [error.message], [again, home]);
  }
}

/** What is wrong with a picture before it is sent; null: nothing. */
export function refusalOf(file, info) {
  if (!info.has_model) return ["Pictures cannot be encoded here", "This index was built without a model: search from its own pictures, or by their keys."];
  if (file.size === 0) return ["This file is empty", `${file.name} has 0 bytes.`];
  if (file.size > bodyLimit(info)) return ["The picture is too large", `${file.name} has ${(file.size / 1e6).toFixed(1)} MB, and this service takes up to ${megabytes(info)}. Save it smaller.`];
  return null;
}

const bodyLimit = (info) => info.limits.body ?? Infinity;
const megabytes = (info) => (Number.isFinite(bodyLimit(info)) ? `${count(Math.floor(bodyLimit(info) / 1e6))} MB` : "less");
