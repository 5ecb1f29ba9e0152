// The filter language, as far as the page's fields write it: to text, and back from text that has this form.

/** How a label is spelled in a filter. */
export const spelled = (name) => (/^[\p{L}\p{N}_]+(?:\.[\p{L}\p{N}_]+)*$/u.test(name) ? `label.${name}` : `label."${name.replaceAll('"', '""')}"`);

export const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

const literal = (value) => (typeof value === "string" ? quoted(value) : String(value));

/** A pattern for text that holds some text. */
const holding = (text) => quoted(`*${text.replace(/[*?[]/g, "[$&]")}*`);

/**
 * Text of choices: {field: {values: [...], list: bool} | {least, most} | {holds: text}}, where a field is "key" or a label's name behind
 * "label:"; empty choices say nothing.
 */
export function toText(choices) {
  const parts = [];
  for (const [name, choice] of Object.entries(choices)) {
    const field = name === "key" ? "key" : spelled(name.slice("label:".length));
    if (choice.values?.length && choice.list) {
      const each = choice.values.map((value) => `${field} has ${literal(value)}`);
      parts.push(each.length > 1 ? `(${each.join(" or ")})` : each[0]);
    } else if (choice.values?.length === 1) parts.push(`${field} = ${literal(choice.values[0])}`);
    else if (choice.values?.length) parts.push(`${field} in (${choice.values.map(literal).join(", ")})`);
    if (choice.least !== undefined) parts.push(`${field} >= ${choice.least}`);
    if (choice.most !== undefined) parts.push(`${field} <= ${choice.most}`);
    if (choice.holds) parts.push(`${field} ~ ${holding(choice.holds)}`);
  }
  return parts.join(" and ");
}

const TOKEN = /\s*(?:(label\.(?:[\p{L}\p{N}_]+(?:\.[\p{L}\p{N}_]+)*|"(?:[^"]|"")*"))|('(?:[^']|'')*')|([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)|(>=|<=|[=~(),])|(\w+))/uy;

/** The choices of a text that `toText` could have written, or null for any other. */
export function fromText(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const found = TOKEN.exec(text);
    if (!found) return null;
    const [, label, string, number, mark, word] = found;
    tokens.push(label ? ["field", nameOf(label)] : string ? ["value", string.slice(1, -1).replaceAll("''", "'")] : number ? ["value", Number(number)] : mark ? ["mark", mark] : ["true", "false"].includes(word) ? ["value", word === "true"] : word === "key" ? ["field", "key"] : ["mark", word]);
  }
  const choices = {};
  const take = (kind, wanted) => {
    const [found, value] = tokens[0] ?? [];
    if (found !== kind || (wanted !== undefined && value !== wanted)) return undefined;
    tokens.shift();
    return { value };
  };
  const test = () => {
    const field = take("field");
    if (!field) return false;
    const choice = (choices[field.value] ??= {});
    if (take("mark", "=")) return add(choice, take("value"));
    if (take("mark", "has")) return add(Object.assign(choice, { list: true }), take("value"));
    if (take("mark", "in")) {
      if (!take("mark", "(")) return false;
      do if (!add(choice, take("value"))) return false; while (take("mark", ","));
      return Boolean(take("mark", ")"));
    }
    for (const [mark, name] of [[">=", "least"], ["<=", "most"]]) {
      if (take("mark", mark)) return typeof (choice[name] = take("value")?.value) === "number";
    }
    if (!take("mark", "~")) return false;
    const pattern = take("value")?.value;
    const held = typeof pattern === "string" && /^\*(.*)\*$/s.exec(pattern)?.[1];
    if (!held || /[*?[]/.test(held.replace(/\[[*?[]\]/g, ""))) return false;
    choice.holds = held.replace(/\[([*?[])\]/g, "$1");
    return true;
  };
  const several = () => {
    if (!take("mark", "(")) return test();
    do if (!test()) return false; while (take("mark", "or"));
    return Boolean(take("mark", ")"));
  };
  do if (!several()) return null; while (take("mark", "and"));
  return tokens.length || toText(choices) !== text.trim() ? null : choices; // what comes back otherwise meant something else
}

function add(choice, found) {
  if (!found) return false;
  (choice.values ??= []).push(found.value);
  return true;
}

function nameOf(label) {
  const name = label.slice("label.".length);
  return `label:${name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name}`;
}
