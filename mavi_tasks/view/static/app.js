/* Which page is shown is in the address, so that it can be shared, reloaded and gone back to. */
import { showGrid } from "./grid.js";
import { showItem } from "./item.js";
import { showRuns } from "./runs.js";

const POLL_MS = 2000;
export const $ = (id) => document.getElementById(id);
export const params = () => new URLSearchParams(location.search);
let facetsOf = { version: -1, found: null };
let version = 0;
let painted = false; /* something has been shown */
let shown = 0; /* counts navigations: a reply that comes too late is dropped */
export let keys = {}; /* of the page that is shown: key -> action */

export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

export async function get(path, query = "") {
  const reply = await fetch(query ? `${path}?${query}` : path);
  if (!reply.ok) throw new Refused(reply.status, await problemOf(reply));
  return reply.json();
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Mavi-View": "1" };
  const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!reply.ok) throw new Refused(reply.status, await problemOf(reply));
  return reply.json();
}

async function problemOf(reply) {
  const text = await reply.text();
  try { return JSON.parse(text).error || text; } catch { return text; }
}

export async function facets(fresh = false) {
  if (fresh || facetsOf.version !== version) facetsOf = { version, found: await get("/api/facets") };
  return facetsOf.found;
}

export function say(text) { $("said").textContent = text; }

/* href of this page with some parameters changed; "" takes one away */
export function address(changes) {
  const query = params();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

export function go(href, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  return show();
}

export function filters() {
  const query = params();
  for (const name of ["id", "view"]) query.delete(name);
  return query;
}

async function show() {
  const turn = ++shown;
  const query = params();
  const page = query.get("view") === "runs" ? showRuns : query.has("id") ? showItem : showGrid;
  try {
    const made = await page(query);
    if (turn !== shown) return;
    painted = true;
    keys = made.keys || {};
    $("main").replaceChildren(...made.nodes);
    document.title = `${made.title} – mavi view`;
    notice("");
    if (made.after) made.after();
  } catch (error) {
    if (turn !== shown) return;
    if (!(error instanceof Refused)) throw error;
    if (error.status === 503 && version === 0) return;
    notice(error.message);
  }
}

export function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

async function poll() {
  try {
    const state = await get("/api/state");
    live(state);
    if (state.problem) notice(state.problem);
    if (state.version !== version) {
      const first = version === 0;
      version = state.version;
      if (!painted || (!first && !params().has("id"))) await show(); /* an item that is being reviewed is left alone */
    } else if (state.version === 0 && state.reading) {
      const { done, total } = state.reading;
      const part = total ? ` ${done.toLocaleString()} of ${total.toLocaleString()} results` : "";
      $("main").replaceChildren(mavi.el("p", { class: "muted", text: `Reading${part} …` }));
    }
  } catch (error) {
    notice(error instanceof Refused ? error.message : "mavi view has ended: start it again.");
  }
  setTimeout(poll, version === 0 ? 150 : POLL_MS);
}

function live(state) {
  const runs = state.live.filter((run) => run.state !== "gone");
  $("live").hidden = !runs.length;
  $("live").textContent = runs.map((run) => {
    const eta = run.done_at_us ? `, done ${new Date(run.done_at_us / 1000).toLocaleTimeString()}` : "";
    return `${run.job}: ${run.done.toLocaleString()} of ${run.requests.toLocaleString()}, $${run.cost_usd}${eta}`;
  }).join(" · ");
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.closest("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") { typing.blur(); event.preventDefault(); }
    return;
  }
  if ((event.key === " " || event.key === "Enter") && event.target.closest("button, a, summary, video")) return;
  const action = event.key === "?" ? () => $("help").showModal() : keys[event.key];
  if (!action) return;
  event.preventDefault();
  action(event);
}

function clicked(event) {
  const link = event.target.closest("a[href]");
  if (!link || link.target || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || url.pathname !== "/" || url.hash) return;
  event.preventDefault();
  go(url.pathname + url.search);
}

document.addEventListener("keydown", pressed);
document.addEventListener("click", clicked);
window.addEventListener("popstate", show);
$("help-button").addEventListener("click", () => $("help").showModal());
show().finally(poll); /* what is indexed already is shown without a word of how far reading is */
