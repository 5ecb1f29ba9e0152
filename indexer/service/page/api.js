// Requests to the service that this page came from, and what went wrong with them.

/** A request that was refused, or that nobody answered (`status` 0). */
export class Refused extends Error {
  constructor(status, reason, detail, wait = null) {
    super(detail);
    Object.assign(this, { status, reason, wait });
  }
}

/** Ask, and return the response; a refusal is thrown. */
export async function ask(path, init = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "the service does not answer");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.reason ?? "", problem.detail ?? response.statusText, Number(response.headers.get("Retry-After")) || null);
}

export const json = async (path, init) => (await ask(path, init)).json();

export const indexInfo = () => json("/v1/index");

export async function randomItems(howMany) {
  const answer = await json(`/v1/random?count=${howMany}`, { cache: "no-store" });
  return Array.isArray(answer) ? answer : answer.items;
}

export const itemOf = (key) => json(`/v1/items/${encodeURIComponent(key)}`);

/** Search by JSON, or by a picture with its options in the query string. */
export function search(request, picture, signal) {
  if (!picture) {
    return json("/v1/search", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request), signal });
  }
  return json(`/v1/search?${inQuery(request)}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: picture, signal });
}

/** What the agreeing bits of two pictures rest on; of a query that is in the index, or of a picture. */
export function explain(query, hit, level, signal) {
  if (query.picture) {
    const options = inQuery({ hit, level });
    return json(`/v1/explain?${options}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: query.picture, signal });
  }
  return json(`/v1/explain?${inQuery({ query: query.key, hit, level })}`, { signal });
}

/** Trade a token for a cookie: pictures cannot send headers. */
export const logIn = (token) => ask("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });

function inQuery(request) {
  return new URLSearchParams(Object.entries(request).map(([name, value]) => [name, String(value)]));
}
