/* The grid: what can be asked for on top, items below. */
import { $, address, facets, filters, get, go } from "./app.js";
import { thumb } from "./medium.js";
const { el } = mavi;
const WAIT_MS = 250; /* after the last key of a search */

export async function showGrid() {
  const [known, page] = await Promise.all([facets(true), get("/api/page", filters())]);
  const cards = await Promise.all(page.items.map(card));
  const list = el("ul", { class: "cards" }, ...cards);
  const move = (step) => () => {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const next = links[Math.min(Math.max(at + step, 0), links.length - 1)];
    if (next) next.focus();
  };
  const turn = (to) => () => { if (to >= 0 && to < page.pages) go(address({ page: to || "" })); };
  const open = async () => { if (page.items.length) go(address({ id: page.items[0].id })); };
  return {
    title: "Items",
    nodes: [
      known.simulated ? el("p", { class: "notice", text: "Simulated: the embedded gateway made these answers up, or some of them." }) : null,
      toolbar(known), summary(known, page), page.items.length ? list : el("p", { class: "muted", text: "Nothing is found. Take a filter away." }), pager(page, turn),
    ].filter(Boolean),
    keys: {
      "/": () => $("f-q").focus(), n: move(1), p: move(-1), ArrowRight: move(1), ArrowLeft: move(-1), Enter: open,
      u: () => go(address({ unreviewed: 1, page: "" })), "]": turn(page.page + 1), "[": turn(page.page - 1),
    },
  };
}

async function card(item) {
  const picture = await thumb(item);
  const prompts = new Set(item.rows.map((row) => row.prompt)).size;
  const lines = item.rows.slice(0, 6).map((row) => el("li", {},
    el("span", { class: "who", text: short(row.model) + (prompts > 1 ? ` · ${row.prompt}` : "") }), " ", answer(row)));
  const more = item.rows.length > 6 ? el("li", { class: "muted", text: `and ${item.rows.length - 6} more` }) : null;
  return el("li", { class: "item" },
    el("a", { href: address({ id: item.id }), "aria-label": `Item ${item.id}` },
      el("span", { class: "picture" }, picture, item.kind === "video" ? el("span", { class: "badge kind", text: "▶ video" }) : null),
      el("span", { class: "id", text: item.id })),
    el("ul", { class: "answers" }, ...lines, more),
    el("p", { class: "marks" },
      item.spread > 0 ? el("span", { class: "badge warn", text: "differ" }) : null,
      item.flagged ? el("span", { class: "badge warn", text: "⚑ flagged" }) : item.reviewed ? el("span", { class: "badge star", text: "✓ reviewed" }) : null));
}

export const short = (model) => (model || "").replace(/^[^:]*:/, "");

function answer(row) {
  if (row.status !== "answered") return el("span", { class: "bad", text: row.code ? `${row.status}: ${row.code}` : row.status });
  const said = Object.entries(row.values);
  const text = said.length === 1 ? said[0][1] : said.map(([name, value]) => `${name}: ${value}`).join(", ");
  const mark = row.right === 1 ? " ✓" : row.right === 0 ? " ✗" : "";
  return el("span", { class: row.right === 0 ? "bad" : row.right === 1 ? "good" : "", text: (text || "(text)") + mark });
}

/* -- filters */

const now = () => filters();

function select(name, label, options, chosen = now().get(name) || "") {
  if (chosen && !options.some(([value]) => value === chosen)) options.push([chosen, chosen]);
  const made = el("select", { id: `f-${name}`, on: { change: () => go(address({ [name]: made.value, page: "" })) } },
    ...options.map(([value, text]) => el("option", { value, text, selected: value === chosen })));
  return el("div", { class: "field" }, el("label", { for: `f-${name}`, text: label }), made);
}

function toggle(name, text) {
  const on = now().has(name);
  return el("button", { type: "button", id: `f-${name}`, "aria-pressed": String(on), text, on: { click: () => go(address({ [name]: on ? "" : 1, page: "" })) } });
}

const counted = (all, pairs) => [["", all], ...pairs.map(([name, rows]) => [name, `${name} (${rows.toLocaleString()})`])];

function toolbar(known) {
  let timer = 0;
  const search = el("input", { id: "f-q", type: "search", value: now().get("q") || "", autocomplete: "off" });
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      await go(address({ q: search.value, page: "" }), { replace: true });
      const again = $("f-q"); again.focus(); again.setSelectionRange(again.value.length, again.value.length);
    }, WAIT_MS);
  });
  const field = known.fields.find((one) => one.name === now().get("field"));
  const runs = known.run_id;
  const below = now().get("below") || "";
  return el("form", { class: "toolbar card", role: "search", "aria-label": "Filters", on: { submit: (event) => event.preventDefault() } },
    el("div", { class: "field" }, el("label", { for: "f-q", text: "Search ids, names, values" }), search),
    select("model", "Model", counted("all", known.model)),
    known.prompt_id.length > 1 ? select("prompt", "Prompt", counted("all", known.prompt_id)) : null,
    select("field", "Field", [["", "any"], ...known.fields.map((one) => [one.name, one.name])]),
    field && field.values.length ? select("value", "Value", [["", "any"], ...field.values.map(([value, text, rows]) => [value, `${text} (${rows.toLocaleString()})`])]) : null,
    select("status", "Status", counted("any", known.status)),
    known.error_code.length ? select("code", "Error", counted("any", known.error_code)) : null,
    known.has_confidence ? select("below", "Confidence below", [["", "any"], ...["0.5", "0.7", "0.9"].map((one) => [one, one])], below) : null,
    runs.length > 1 ? select("run", "Run", counted("newest rows", runs)) : null,
    runs.length > 1 && now().get("run") ? select("before", "Changed since", counted("–", runs.filter(([id]) => id !== now().get("run")))) : null,
    select("sort", "Order", [["", "as given"], ["spread", "most disagreement"], ["cost", "dearest"], ["latency", "slowest"]]),
    el("div", { class: "toggles" }, toggle("differ", "Models differ"), known.has_truth ? toggle("wrong", "Wrong") : null,
      toggle("unreviewed", "Unreviewed"), toggle("flagged", "Flagged"), el("a", { href: "/", text: "All items" })));
}

function summary(known, page) {
  const share = known.items ? Math.round((100 * known.reviewed) / known.items) : 0;
  return el("p", { id: "summary", class: "muted", text: `${page.total.toLocaleString()} of ${known.items.toLocaleString()} items · ${known.reviewed.toLocaleString()} reviewed (${share} %) · ${known.flagged.toLocaleString()} flagged` });
}

function pager(page, turn) {
  const button = (text, to) => el("button", { type: "button", text, disabled: to < 0 || to >= page.pages, on: { click: turn(to) } });
  return el("nav", { class: "pager", "aria-label": "Pages of items" }, button("◂ Before", page.page - 1),
    el("span", { class: "muted", text: `page ${(page.page + 1).toLocaleString()} of ${page.pages.toLocaleString()}` }), button("Next ▸", page.page + 1));
}
