/* Saying what is right: one key, or the form of the answer schema. Every review is a row; undo is one too. */
import { get, post, Refused, say } from "./app.js";
const { el } = mavi;
const DONE = "mavi-view-done"; /* reviews of this tab, the newest last, so that undo also works after a reload */

const stack = () => { try { return JSON.parse(sessionStorage.getItem(DONE)) || []; } catch { return []; } };
const keep = (list) => { try { sessionStorage.setItem(DONE, JSON.stringify(list.slice(-500))); } catch { /* not kept */ } };
const reviewer = () => { try { return localStorage.getItem("mavi-view-reviewer") || ""; } catch { return ""; } };
export function nameReviewer(name) { try { localStorage.setItem("mavi-view-reviewer", name); } catch { /* not kept */ } }
export const reviewerName = reviewer;

/* Sends one review. Resolves to true when it is written; on a conflict the page shows what the other said. */
export async function send(item, prompt, body, shown) {
  try {
    const made = await post("/api/review", { item: item.id, prompt, seen: item.seen[prompt] ?? null, reviewer: reviewer(), ...body });
    item.seen[prompt] = made.review_id;
    if (body.action !== "undo") keep([...stack(), { id: item.id, prompt, review: made.review_id }]);
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 409) shown(`${error.message} Look at it, and decide again.`);
    else say(error.message);
    return false;
  }
}

/* Takes the last review of this tab back, else the newest of this item; resolves to the item's id, or null. */
export async function undo(item) {
  const done = stack();
  let last = done.pop();
  if (!last) {
    const newest = item.reviews[item.reviews.length - 1];
    if (!newest) { say("Nothing to undo."); return null; }
    last = { id: item.id, prompt: newest.prompt_id, review: newest.review_id };
  }
  keep(done);
  const there = last.id === item.id ? item : await get("/api/item", new URLSearchParams({ id: last.id }));
  const ok = await send(there, last.prompt, { action: "undo", retracts: last.review }, say);
  return ok ? last.id : null;
}

/* A form with a control for each field of the answer; filled from `value` */
export function form(fields, value, save, cancel) {
  const controls = fields.map((field) => control(field, field.name === null ? value : (value || {})[field.name]));
  const problem = el("p", { class: "bad", role: "alert" });
  const made = el("form", { class: "edit", "aria-label": "What is right", on: { submit: async (event) => {
    event.preventDefault();
    try {
      const given = { ...(value && typeof value === "object" && !Array.isArray(value) ? value : {}) };
      for (const one of controls) {
        const read = one.read();
        if (read === undefined) delete given[one.name ?? ""];
        else given[one.name ?? ""] = read;
      }
      problem.textContent = "";
      await save(given);
    } catch (error) { problem.textContent = error.message; }
  } } }, ...controls.map((one) => one.node), problem,
  el("div", { class: "controls" }, el("button", { type: "submit", text: "Save" }), el("button", { type: "button", text: "Cancel", on: { click: cancel } })));
  made.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); cancel(); } });
  return made;
}

let number = 0;
function control(field, value) {
  const id = `edit-${++number}`;
  const label = field.name ?? "answer";
  if (field.kind === "enum" || field.kind === "boolean") return buttons(field, label, value);
  const isLong = field.kind === "list" || field.kind === "json" || field.kind === "text" && typeof value === "string" && value.length > 60;
  const text = value === null || value === undefined ? "" : field.kind === "list" && Array.isArray(value) ? value.join("\n") : typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
  const input = isLong ? el("textarea", { id, rows: 4 }) : el("input", { id, type: field.kind === "number" || field.kind === "integer" ? "number" : "text", step: field.kind === "integer" ? "1" : "any" });
  input.value = text;
  const hint = field.kind === "list" ? "one on each line" : field.kind === "json" ? "JSON" : field.description;
  const read = () => {
    if (input.value === "" && (field.kind !== "text" || !field.required)) return undefined;
    if (field.kind === "number" || field.kind === "integer") return Number(input.value);
    if (field.kind === "list") return input.value.split("\n").filter((line) => line.trim()).map((line) => (Array.isArray(value) && typeof value[0] === "number" ? Number(line) : line));
    if (field.kind !== "json") return input.value;
    try { return JSON.parse(input.value); } catch { throw new Error(`${label}: must be JSON`); }
  };
  return { name: field.name, read, node: el("div", { class: "field" }, el("label", { for: id, text: hint ? `${label} (${hint})` : label }), input) };
}

function buttons(field, label, value) {
  const options = field.kind === "boolean" ? [true, false] : field.options;
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other) || (field.guessed && String(one).toLowerCase() === String(other).toLowerCase());
  let chosen = options.find((one) => same(one, value));
  const made = options.map((option) => el("button", { type: "button", "aria-pressed": String(option === chosen), text: String(option) }));
  made.forEach((button, at) => button.addEventListener("click", () => {
    chosen = button.getAttribute("aria-pressed") === "true" ? undefined : options[at];
    made.forEach((one, other) => one.setAttribute("aria-pressed", String(options[other] === chosen)));
  }));
  return { name: field.name, read: () => chosen, node: el("fieldset", {}, el("legend", { text: label }), ...made) };
}
