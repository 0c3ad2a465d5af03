/* What `mavi status` shows, and what was spent. */
import { get } from "./app.js";
const { el } = mavi;
const COLUMNS = ["answered", "failed", "invalid", "skipped", "waiting", "in_doubt"];

export async function showRuns() {
  const { datasets } = await get("/api/runs");
  return { title: "Runs", nodes: datasets.flatMap(section) };
}

const usd = (text) => (text === null ? "not known" : `$${text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text}`);
const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString());
const time = (text) => (text ? new Date(text).toLocaleString() : "–");

function tableOf(caption, names, rows) {
  const made = el("table", {}, el("caption", { text: caption }), el("thead", {}, el("tr", {}, ...names.map((name, at) => el("th", { scope: "col", class: at ? "num" : "", text: name })))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, at) => (cell instanceof Node ? el("td", {}, cell) : el(at ? "td" : "th", { class: at ? "num" : "", scope: at ? null : "row", text: cell })))))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

function section(one) {
  const figures = el("dl", { class: "kpis" }, ...[...COLUMNS.map((name) => [name.replace("_", " "), count(one[name])]), ["spent", usd(one.cost_usd ?? one.known_cost_usd)], ["for no answer", usd(one.waste_usd)], ["at most in doubt", usd(one.exposure_usd)]]
    .map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))));
  const models = one.models.map((model) => [model.model, ...COLUMNS.map((name) => count(model[name])), usd(model.cost_usd ?? model.known_cost_usd)]);
  const runs = one.run_rows.slice().reverse().map((run) => [el("a", { href: `/?run=${encodeURIComponent(run.run_id)}`, text: run.run_id }), run.job, run.status, run.stop_reason || "", time(run.started_at), time(run.finished_at), count(run.answered), count(run.unsent), usd(run.cost_usd)]);
  const live = one.live.map((run) => [run.run_id, run.job, run.state, count(run.done), count(run.requests), String(run.rate_per_s), time(run.done_at)]);
  return [
    el("h2", { text: one.dir }), figures,
    live.length ? el("section", { class: "card" }, tableOf("Runs that go on", ["run", "job", "state", "done", "requests", "a second", "done at"], live)) : null,
    el("section", { class: "card" }, tableOf("Models", ["model", ...COLUMNS.map((name) => name.replace("_", " ")), "spent"], models)),
    one.codes.length ? el("section", { class: "card" }, tableOf("Rows without an answer", ["model", "status", "code", "rows", "first message"], one.codes.map((code) => [code.model, code.status, code.code, count(code.rows), code.message]))) : null,
    el("section", { class: "card" }, tableOf("Runs", ["run", "job", "ended", "why", "started", "finished", "answered", "unsent", "spent"], runs)),
  ].filter(Boolean);
}
