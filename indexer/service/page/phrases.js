// The same search in other words: curl, the command line, Python; and its hits as JSON and CSV.

import { ALL } from "./state.js";

/** A word of a POSIX shell. */
export const shell = (text) => (/^[\w./:=@%+,-]+$/.test(text) ? text : /[^\x20-\x7e]/.test(text) ? ansi(text) : `'${text.replaceAll("'", `'\\''`)}'`);

/** A word that may hold anything, by escapes: no odd character is raw on a clipboard. */
const ansi = (text) => `$'${[...text].map((c) => (c === "'" || c === "\\" ? `\\${c}` : /[\x20-\x7e]/.test(c) ? c : [...new TextEncoder().encode(c)].map((b) => `\\x${b.toString(16).padStart(2, "0")}`).join(""))).join("")}'`;

/** A literal of Python. */
export function python(value) {
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${python(name)}: ${python(one)}`).join(", ")}}`;
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? ascii(value) : String(value);
}

/** JSON of ASCII alone, which is a string of Python too but for characters beyond the first plane. */
const ascii = (value) => JSON.stringify(value).replace(/[^\x20-\x7e]/gu, (c) => (c.length > 1 ? `\\U${c.codePointAt(0).toString(16).padStart(8, "0")}` : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`));

const jsonAscii = (value) => JSON.stringify(value).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** [[title, text], ...] of a request; of a picture, its name stands for the file. */
export function phrases(request, how, origin, state) {
  const { picture, histogram, ...rest } = request;
  const asked = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const file = state.name ?? "photo.jpg";
  return [["curl", curl(asked, picture ? file : null, origin)], ["Command line", commandLine(asked, file, how, origin, state)], ["Python", inPython(asked, picture ? file : null, how, origin)]];
}

function curl(asked, file, origin) {
  if (file === null) return `curl ${shell(`${origin}/v1/search`)} \\\n  --json ${shell(jsonAscii(asked))}`;
  const query = new URLSearchParams(Object.entries(asked).map(([key, value]) => [key, String(value)]));
  return `curl ${shell(`${origin}/v1/search?${query}`)} \\\n  -H 'Content-Type: application/octet-stream' --data-binary ${shell(`@${file}`)}`;
}

/** A command line takes no codes: a picture is asked for by its file. */
function commandLine(asked, file, how, origin, { region, mode, picture }) {
  const what = asked.key !== undefined ? `key:${asked.key}` : asked.codes || picture ? file : null;
  const words = ["indexer query", ...(what === null ? [] : [shell(what)]), `--url ${shell(origin)}`];
  if (how.level !== ALL) words.push(`--level ${how.level}`);
  words.push(`-k ${asked.k}`);
  if (asked.radius !== undefined) words.push(`--radius ${asked.radius}`);
  if (asked.max_false !== undefined) words.push(`--max-false ${asked.max_false}`);
  if (region) words.push(`--region ${region.map((share) => Number(share.toFixed(4))).join(",")}`);
  if (mode) words.push(`--region-mode ${mode}`);
  for (const key of asked.positive ?? []) words.push(`--like ${shell(key)}`);
  for (const key of asked.negative ?? []) words.push(`--dislike ${shell(key)}`);
  if (asked.where) words.push(`--where ${shell(asked.where)}`);
  const line = words.join(" ");
  return how.level === ALL ? how.levels.map((level) => `${line} --level ${level}`).join("\n") : line;
}

function inPython(asked, file, how, origin) {
  const { key, codes, positive = [], negative = [], region, region_mode: mode, levels, combine, ...rest } = asked;
  const more = [...(region ? [`region=Region(${region.join(", ")})`] : []), ...(mode ? [`region_mode=${python(mode)}`] : [])];
  const lines = ["import indexer"], names = new Set();
  let what = null;
  if (file !== null) what = (names.add("ByImage"), `ByImage(${[python(file), ...more].join(", ")})`);
  else if (key !== undefined) what = (names.add("ByKey"), `ByKey(${python(key)})`);
  else if (codes) {
    names.add("ByCode");
    lines.push("import numpy as np");
    what = `ByCode({level: np.frombuffer(bytes.fromhex(code), np.uint8) for level, code in ${python(codes)}.items()})`;
  }
  if (positive.length || negative.length) {
    names.add("ByExamples");
    what = `ByExamples(${python(positive).replace("[", "(").replace(/\]$/, positive.length === 1 ? ",)" : ")")}, ${python(negative).replace("[", "(").replace(/\]$/, negative.length === 1 ? ",)" : ")")}${what ? `, start=${what}` : ""})`;
  }
  lines.push(`from indexer.query import ${[...names].sort().join(", ")}`);
  if (region && file !== null) lines.push("from encoder.images.region import Region");
  lines.push("", `client = indexer.Client(${python(origin)})`);
  const options = Object.entries(rest).map(([name, value]) => `${name}=${python(value)}`);
  if (how.level === ALL) {
    lines.push(`for level in ${python(how.levels)}:`, `    for hit in client.query(${what}, level=level, ${options.join(", ")}):`, "        print(level, hit.rank, hit.key, hit.distance)");
  } else {
    lines.push(`for hit in client.query(${what}, ${options.join(", ")}):`, "    print(hit.rank, hit.key, hit.distance)");
  }
  return lines.join("\n");
}

/** A table of hits; cells that a spreadsheet would compute get a quote mark before them. */
export function csv(answers) {
  const hits = answers.flatMap((answer) => answer.hits.map((hit) => ({ level: answer.level, ...hit })));
  const fields = [...new Set(hits.flatMap((hit) => Object.keys(hit.labels)))];
  const rows = hits.map((hit) => [hit.level, hit.rank, hit.key, hit.distance, hit.score ?? "", hit.shard, ...fields.map((field) => [hit.labels[field] ?? ""].flat().join("; "))]);
  return [["level", "rank", "key", "distance", "score", "shard", ...fields.map((field) => `label.${field}`)], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
