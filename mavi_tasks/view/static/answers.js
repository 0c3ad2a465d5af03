/* All answers to one item side by side: a row for each field, a column for each model and prompt. */
import { short } from "./grid.js";
const { el } = mavi;
const FACTS = [
  ["what it saw", saw], ["cost", (row) => (row.cost_usd === null ? "–" : `$${trimmed(row.cost_usd)}`)],
  ["latency", (row) => (row.latency_s === null ? "–" : `${row.latency_s.toFixed(2)} s`)],
  ["tokens in / out", (row) => `${number(row.input_tokens)} / ${number(row.output_tokens)}`],
  ["attempts", (row) => number(row.attempts)], ["finish", (row) => row.finish_reason || "–"],
  ["run", (row) => row.run_id], ["finished", (row) => (row.finished_at ? new Date(row.finished_at).toLocaleString() : "–")],
];
const SPAN = /"(?:start|begin|from)(?:_s|_seconds)?"\s*:\s*(\d+(?:\.\d+)?)|\b(\d{1,2}):([0-5]\d)\b/g;

const number = (value) => (value === null ? "–" : value.toLocaleString());
const trimmed = (usd) => (usd.includes(".") ? usd.replace(/0+$/, "").replace(/\.$/, "") : usd);

function saw(row) {
  const parts = [row.input_mode];
  if (row.frames_sent !== null) parts.push(`${row.frames_sent} frames`);
  if (row.width !== null) parts.push(`${row.width} × ${row.height}`);
  if (row.duration_s !== null) parts.push(`${row.duration_s.toFixed(1)} s`);
  return parts.filter(Boolean).join(", ") || "–";
}

/* rows: in the order of their keys 1-9. jump: to a second of the video, or null. */
export function table(item, prompt, rows, jump) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.fields)))];
  const compared = names.filter((name) => rows.some((row) => name in row.compared));
  const differs = new Set(compared.filter((name) => new Set(rows.filter((row) => row.status === "answered").map((row) => row.compared[name] ?? -1)).size > 1));
  const head = rows.map((row) => el("th", { scope: "col" },
    row.key ? el("kbd", { text: row.key }) : null, " ", el("span", { title: row.model, text: short(row.model) }),
    row.current ? null : el("span", { class: "badge", text: "older" }), mark(row)));
  const cells = names.map((name) => el("tr", { class: differs.has(name) ? "differs" : "" },
    el("th", { scope: "row" }, el("span", { text: name }), differs.has(name) ? el("span", { class: "hide", text: " (differs)" }) : null),
    ...rows.map((row) => el("td", { class: differs.has(name) && odd(rows, row, name) ? "odd" : "" }, value(item, row, row.fields[name], jump)))));
  const states = rows.some((row) => row.status !== "answered")
    ? [el("tr", {}, el("th", { scope: "row", text: "status" }), ...rows.map((row) => el("td", {}, state(row))))] : [];
  const facts = FACTS.map(([name, of]) => el("tr", { class: "fact" }, el("th", { scope: "row", text: name }), ...rows.map((row) => el("td", { text: of(row) }))));
  return el("section", { class: "card", "aria-label": `Answers to ${prompt}` },
    el("h2", { text: prompt || "Answers" }),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers side by side" },
      el("table", { class: "answers" },
        el("thead", {}, el("tr", {}, el("td", {}), ...head)), el("tbody", {}, ...states, ...cells, ...facts))),
    expected(item, rows), prompts(item, rows));
}

function mark(row) {
  if (row.right === null) return null;
  return el("span", { class: row.right ? "good" : "bad", text: row.right ? " ✓ right" : " ✗ wrong" });
}

function odd(rows, row, name) {
  const count = new Map();
  for (const one of rows) if (one.status === "answered") count.set(one.compared[name] ?? -1, (count.get(one.compared[name] ?? -1) || 0) + 1);
  return row.status === "answered" && count.get(row.compared[name] ?? -1) < Math.max(...count.values()) || (count.size > 1 && new Set(count.values()).size === 1);
}

function state(row) {
  const parts = [el("span", { class: row.status === "answered" ? "good" : "bad", text: row.status })];
  if (row.error_code) parts.push(el("span", { text: ` ${row.error_code}${row.http_status ? ` (HTTP ${row.http_status})` : ""}` }));
  if (row.error_message) parts.push(el("p", { class: "small", text: row.error_message.text }));
  return el("div", {}, ...parts);
}

function value(item, row, text, jump) {
  if (!text) return el("span", { class: "muted", text: "–" });
  const node = el("div", { class: "value", text: text.text });
  const parts = [node];
  if (text.length > text.text.length) {
    parts.push(el("p", { class: "small" }, el("a", { href: whole(item, row, "answer"), target: "_blank", rel: "noopener", text: `All ${text.length.toLocaleString()} characters` })));
  }
  if (jump) {
    const times = [...text.text.slice(0, 5000).matchAll(SPAN)].slice(0, 12).map((found) => (found[1] !== undefined ? Number(found[1]) : 60 * found[2] + Number(found[3])));
    parts.push(...[...new Set(times)].map((seconds) => el("button", { type: "button", class: "time", text: `▶ ${seconds} s`, on: { click: () => jump(seconds) } })));
  }
  return el("div", {}, ...parts);
}

const whole = (item, row, column) => `/api/text?id=${encodeURIComponent(item.id)}&row=${row.row}&column=${column}`;

function expected(item, rows) {
  const truth = rows.find((row) => row.truth);
  return truth ? el("p", {}, "Expected: ", el("strong", { text: truth.truth.text.slice(0, 2000) })) : null;
}

function prompts(item, rows) {
  const row = rows.find((one) => one.prompt);
  const raw = rows.filter((one) => one.answer).map((one) => el("details", {}, el("summary", { text: `Raw answer of ${short(one.model)}` }),
    el("pre", { text: one.answer.text, tabindex: "0" }), one.answer.length > one.answer.text.length
      ? el("a", { href: whole(item, one, "answer"), target: "_blank", rel: "noopener", text: `All ${one.answer.length.toLocaleString()} characters` }) : null));
  return el("div", {}, row ? el("details", {}, el("summary", { text: "Prompt" }), el("pre", { text: row.prompt.text, tabindex: "0" })) : null, ...raw);
}
