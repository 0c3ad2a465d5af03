/* One item: its medium large, all answers to it, what people said of them. */
import { $, address, get, go, notice, say } from "./app.js";
import { table } from "./answers.js";
import { short } from "./grid.js";
import { large } from "./medium.js";
import { form, nameReviewer, reviewerName, send, undo } from "./review.js";
const { el } = mavi;

export async function showItem(query) {
  const item = await get("/api/item", query);
  const medium = await large(item);
  const others = query.has("run") || query.has("older");
  const rows = item.rows.filter((row) => row.current || others);
  const prompts = [...new Set(rows.map((row) => row.prompt_id))];
  const active = prompts.includes(query.get("prompt")) ? query.get("prompt") : prompts[0];
  number(rows, active);
  const page = { item, active, rows, editor: el("div", { id: "editor" }), note: noteField(item, active) };
  const tables = prompts.map((prompt) => table(item, prompt, rows.filter((row) => row.prompt_id === prompt), medium.jump));
  const older = item.rows.length - rows.length;
  const nodes = [
    head(item), 
    el("div", { class: "two" },
      el("div", { class: "left" }, medium.node, el("p", { class: "muted small uri", text: item.uri || "" }), actions(page), page.editor, said(item)),
      el("div", { class: "right" }, ...tables, older ? el("p", {}, el("a", { href: address({ older: 1 }), text: `Show ${older} older answers` })) : null)),
  ];
  return { title: item.id, nodes, keys: { ...keysOf(page), ...medium.keys }, after: () => { if (!document.activeElement || document.activeElement === document.body) $("main").focus({ preventScroll: true }); } };
}

/* Keys 1-9 are the newest answers to the prompt that is reviewed */
function number(rows, active) {
  for (const row of rows) row.key = row.current && row.prompt_id === active && row.status === "answered" && row.number < 10 ? String(row.number) : "";
}

function head(item) {
  const link = (text, id) => (id ? el("a", { href: address({ id }), text }) : el("span", { class: "muted", text }));
  const place = item.at >= 0 ? `${(item.at + 1).toLocaleString()} of ${item.total.toLocaleString()}` : "not among what is asked for";
  return el("div", { class: "head" },
    el("h2", { text: item.id }),
    el("nav", { "aria-label": "Other items" }, el("a", { href: address({ id: "", older: "" }), text: "◂ Items" }), link("Previous", item.previous), link("Next", item.next), link("Next unreviewed", item.next_unreviewed)),
    el("div", { class: "progress" }, el("progress", { max: item.total || 1, value: item.reviewed, "aria-label": "Reviewed" }),
      el("span", { class: "muted small", id: "progress", text: `${place} · ${item.reviewed.toLocaleString()} reviewed` })));
}

function keysOf(page) {
  const { item } = page;
  const keys = {
    e: () => edit(page), f: () => act(page, { action: "flag" }, "flagged"), x: () => act(page, { action: "reject" }, "no answer is right"),
    " ": () => on(item), n: () => item.next && go(address({ id: item.next })), p: () => item.previous && go(address({ id: item.previous })),
    u: () => item.next_unreviewed && go(address({ id: item.next_unreviewed })), Backspace: () => takeBack(page),
    Escape: () => go(address({ id: "", older: "" })), "/": async () => { await go(address({ id: "" })); $("f-q").focus(); },
    m: () => page.note.querySelector("textarea").focus(),
  };
  for (const row of page.rows) if (row.key) keys[row.key] = () => act(page, { action: "take", model: row.model }, `${short(row.model)} is right`);
  return keys;
}

const on = (item) => go(item.next ? address({ id: item.next }) : address({ id: "", older: "" }));

async function act(page, body, text) {
  const { item, active } = page;
  if (page.busy) return;
  page.busy = true;
  try {
    const note = page.note.querySelector("textarea").value;
    if (!(await send(item, active, { ...body, note }, conflict))) return;
    await on(item);
    say(`${item.id}: ${text}`);
  } finally { page.busy = false; }
}

async function conflict(text) {
  await go(location.pathname + location.search, { replace: true });
  notice(text);
}

async function takeBack(page) {
  const id = await undo(page.item);
  if (id === null) return;
  await go(address({ id }));
  say(`${id}: the review is taken back`);
}

function edit(page) {
  const { item, active } = page;
  const mine = item.reviews.filter((one) => one.prompt_id === active && one.value_json).pop();
  const row = page.rows.find((one) => one.key);
  const value = mine ? JSON.parse(mine.value_json) : row ? row.prefill : null;
  const close = () => { page.editor.replaceChildren(); $("main").focus({ preventScroll: true }); };
  const save = (given) => act(page, { action: "correct", value: given }, "corrected");
  const made = form(item.form, value, save, close);
  page.editor.replaceChildren(el("h3", { text: "What is right?" }), made);
  const first = made.querySelector("[aria-pressed='true']") || made.querySelector("button, input, textarea");
  if (first) first.focus();
}

function actions(page) {
  const button = (key, text, action) => el("button", { type: "button", on: { click: action } }, el("kbd", { text: key }), ` ${text}`);
  const keys = keysOf(page);
  const takes = page.rows.filter((row) => row.key).map((row) => button(row.key, short(row.model), keys[row.key]));
  return el("div", { class: "card review", role: "group", "aria-label": "Review" },
    el("div", { class: "controls" }, ...takes),
    el("div", { class: "controls" }, button("e", "Edit", keys.e), button("x", "None is right", keys.x), button("f", "Flag", keys.f), button("Space", "Skip", keys[" "]), button("⌫", "Undo", keys.Backspace)),
    page.note);
}

function noteField(item, active) {
  const last = item.reviews.filter((one) => one.prompt_id === active).pop();
  const note = el("textarea", { id: "note", rows: 2, maxlength: 10000 });
  note.value = (last && last.note) || "";
  const name = el("input", { id: "reviewer", type: "text", maxlength: 200, value: reviewerName(), on: { change: () => nameReviewer(name.value) } });
  return el("div", { class: "notes" },
    el("div", { class: "field" }, el("label", { for: "note", text: "Note (m), kept with the review" }), note),
    el("div", { class: "field" }, el("label", { for: "reviewer", text: "Your name" }), name));
}

function said(item) {
  if (!item.reviews.length) return null;
  return el("section", { class: "card", id: "reviews" }, el("h3", { text: "Reviews" }), el("ul", {}, ...item.reviews.map((one) => el("li", {},
    el("strong", { text: one.verdict }), one.chosen_model ? ` ${short(one.chosen_model)}` : "", one.value_json ? el("code", { text: ` ${one.value_json.slice(0, 500)}` }) : null,
    el("span", { class: "muted small", text: ` ${one.reviewer || ""}, ${new Date(one.reviewed_at).toLocaleString()}` }), one.note ? el("p", { text: one.note }) : null))));
}
