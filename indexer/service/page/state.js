// What is looked for and how, as plain data: to and from the page's address, and to requests of the service.

export const ALL = "all";
export const LEVELS = ["fine", "mid", "coarse", "fused"];
export const PAGE = 60;
export const COLUMN = 16;

/** What each level is about. */
export const NOTES = {
  fine: "local texture and detail: the same object, print or picture?",
  mid: "parts: the same class?",
  coarse: "global semantics: the same kind of thing?",
  fused: "all three levels together",
  all: "what each level finds, side by side",
};

const EMPTY = {
  key: null, codes: null, picture: null, name: null, region: null, mode: null,
  like: [], dislike: [], question: "similar", level: null, radius: null, cutoff: null, where: null,
};

/** A new query: nothing of the one before but how to search. */
export const asked = (state, query) => ({
  ...EMPTY, question: state.question, level: state.level, cutoff: state.cutoff, where: state.where,
  radius: state.question === "duplicate" ? state.radius : null, ...query,
});

export const isHome = (state) => !state.key && !state.codes && !state.picture && !state.like.length;

/** Read the address. What is not understood is left out: anybody may have written it. */
export function fromAddress(search) {
  const given = new URLSearchParams(search);
  const state = { ...EMPTY };
  for (const name of ["key", "picture", "name", "where"]) state[name] = given.get(name) || null;
  const codes = Object.fromEntries((given.get("codes") ?? "").split(",").map((part) => part.split(":")));
  const known = LEVELS.filter((level) => /^(?:[0-9a-f]{2})+$/.test(codes[level] ?? ""));
  if (known.length) state.codes = Object.fromEntries(known.map((level) => [level, codes[level]]));
  const region = (given.get("region") ?? "").split(",").map(Number);
  if (region.length === 4 && region.every((share) => share >= 0 && share <= 1)) state.region = region;
  if (["attention", "crop"].includes(given.get("seen"))) state.mode = given.get("seen");
  state.like = given.getAll("like");
  state.dislike = given.getAll("dislike");
  if (given.get("question") === "duplicate") state.question = "duplicate";
  if ([ALL, ...LEVELS].includes(given.get("level"))) state.level = given.get("level");
  if (/^\d{1,5}$/.test(given.get("radius") ?? "")) state.radius = Number(given.get("radius"));
  if (given.get("cutoff") === "off" || Number(given.get("cutoff")) > 0) state.cutoff = given.get("cutoff");
  return state;
}

/** The address of a state: codes and keys, so that nothing is uploaded again. */
export function toAddress(state) {
  const out = new URLSearchParams();
  for (const name of ["key", "picture", "name"]) if (state[name]) out.set(name, state[name]);
  if (state.codes) out.set("codes", Object.entries(state.codes).map(([level, code]) => `${level}:${code}`).join(","));
  if (state.region) out.set("region", state.region.map((share) => Number(share.toFixed(4))).join(","));
  if (state.mode) out.set("seen", state.mode);
  for (const key of state.like) out.append("like", key);
  for (const key of state.dislike) out.append("dislike", key);
  if (state.question !== "similar") out.set("question", state.question);
  if (state.level) out.set("level", state.level);
  if (state.radius !== null) out.set("radius", state.radius);
  if (state.cutoff) out.set("cutoff", state.cutoff);
  if (state.where) out.set("where", state.where);
  const text = out.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
  return text ? `/?${text}` : "/";
}

/** How a state is searched on a certain index: what is left open is chosen here. */
export function plan(state, info) {
  const has = LEVELS.filter((level) => level in info.levels);
  const usual = has.includes("fused") ? "fused" : has[0];
  const duplicate = state.question === "duplicate";
  let level = duplicate ? (has.includes("fine") ? "fine" : has[0]) : (state.level ?? usual);
  if (level !== ALL && !has.includes(level)) level = usual;
  const levels = level === ALL ? has : [level];
  const one = level === ALL ? null : info.levels[level];
  const cutoffs = one ? cutoffsOf(one) : {};
  let radius = level === ALL ? null : state.radius, maxFalse = null;
  if (level !== ALL && state.cutoff !== null && state.cutoff in cutoffs) maxFalse = state.cutoff;
  if (duplicate && radius === null && maxFalse === null && state.cutoff !== "off") {
    if ("0.001" in cutoffs) maxFalse = "0.001";
    else radius = Math.round(one.bits / 16); // copies of a picture that was scaled or pressed anew differ in so few bits
  }
  return { has, usual, level, levels, bits: one?.bits ?? null, cutoffs, radius, maxFalse, duplicate, mark: markOf(state, cutoffs, maxFalse) };
}

/** Radius by unrelated images per query, of those that some radius keeps: where not even equal codes do, it is -1. */
export const cutoffsOf = (level) => Object.fromEntries(Object.entries(level.cutoffs).filter(([, radius]) => radius >= 0));

/** Hits are marked from this distance on, where they are not left out: so far comes one unrelated image per 100 queries. */
function markOf(state, cutoffs, maxFalse) {
  return state.cutoff === "off" || maxFalse !== null || !("0.01" in cutoffs) ? null : cutoffs["0.01"];
}

/** Whether examples change the order: then no code has the distances of the hits. */
const isTaught = (state) => state.like.length > 0 || state.dislike.length > 0;

/** Whether a query is a row that is asked for, so that it is counted where it passes the filter; `withoutItself` takes it out. */
const findsItself = (state) => Boolean(state.key) && !state.region && !isTaught(state);

/** A response without the query's own row, in its hits and in its counts; `seen` are the hits that the service gave of each level. */
export function withoutItself(state, response) {
  const answers = response.answers.map((answer) => {
    const hits = answer.hits.filter((hit) => !findsItself(state) || hit.key !== state.key);
    const own = answer.hits.length - hits.length;
    const histogram = answer.histogram?.map((rows, distance) => (distance === 0 ? rows - own : rows));
    return { ...answer, hits, histogram, eligible: answer.eligible - own, seen: answer.hits.length };
  });
  return { ...response, answers };
}

/** The options of a search request; what is looked for is put beside them by `source`. */
export function options(state, how, offset, k) {
  const out = { k };
  if (offset) out.offset = offset;
  if (how.level === ALL) Object.assign(out, { levels: how.levels, combine: "each" });
  else out.level = how.level;
  if (how.radius !== null && how.radius < how.bits) out.radius = how.radius;
  if (how.maxFalse !== null) out.max_false = Number(how.maxFalse);
  if (state.where) out.where = state.where;
  if (state.like.length) out.positive = state.like;
  if (state.dislike.length) out.negative = state.dislike;
  if (how.level !== ALL && !offset && !isTaught(state)) out.histogram = true;
  if (findsItself(state)) Object.assign(out, { exclude_self: false, k: k + 1 });
  return out;
}

/** What is looked for: by codes where they are known, so that neither a picture is sent nor encoded twice. */
export function source(state, how) {
  if (state.codes && how.levels.every((level) => level in state.codes)) return { codes: state.codes };
  const region = state.region ? { region: state.region, ...(state.mode ? { region_mode: state.mode } : {}) } : {};
  if (state.key) return { key: state.key, ...region };
  return state.picture ? { picture: state.picture, ...region } : {};
}
