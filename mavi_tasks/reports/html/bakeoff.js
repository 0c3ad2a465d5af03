/* The answers side by side: filter, search, sort, page; state lives in the address, so a view can be shared. */
mavi.data.then((data) => {
  const PAGE = 12;
  const { el, link } = mavi;
  const items = data.items;
  const count = items.id.length;
  const models = data.models;
  const $ = (id) => document.getElementById(id);
  const text = (at) => (at < 0 ? "" : data.texts[at]);
  const label = (code) => (code < 0 ? "" : data.labels[code]);
  const fields = { q: $("f-search"), show: $("f-show"), a: $("f-a"), b: $("f-b"), truth: $("f-truth"), prompt: $("f-prompt"), sort: $("f-sort") };
  const start = { q: "", show: "differ", a: "", b: "", truth: "", prompt: "", sort: "worst" };
  let confusion = null; /* {model, truth, said} from a cell of a confusion table */
  let page = 0;
  let found = [];

  const option = (value, shown) => el("option", { value, text: shown });
  models.forEach((model, at) => [fields.a, fields.b].forEach((select) => select.append(option(at, model.short))));
  const truths = [...new Set(items.truth.filter((at) => at >= 0).map(text))].sort();
  if (fields.truth) truths.slice(0, 300).forEach((name) => fields.truth.append(option(name, name)));
  const prompts = [...new Set(items.prompt)].sort();
  prompts.forEach((name) => fields.prompt.append(option(name, name)));
  fields.prompt.closest(".field").hidden = prompts.length < 2;

  const haystack = new Array(count);
  function words(at) {
    if (haystack[at] === undefined) {
      const said = items.said[at].map(text).concat(items.code[at].map(label));
      haystack[at] = [items.id[at], items.uri[at] || "", text(items.truth[at]), ...said].join("\n").toLowerCase();
    }
    return haystack[at];
  }

  const answered = (at, m) => items.state[at][m] === 1;
  const asked = (at, m) => items.state[at][m] !== 0;
  const differ = (at, a, b) => answered(at, a) && answered(at, b) && items.code[at][a] !== items.code[at][b];
  const every = models.map((_, m) => m);
  const SHOW = {
    all: () => true,
    differ: (at) => items.spread[at] > 0,
    wrong: (at) => items.right[at].some((right, m) => right === 0 && asked(at, m)),
    allwrong: (at) => items.right[at].some((r) => r === 0) && every.every((m) => !asked(at, m) || items.right[at][m] === 0),
    silent: (at) => every.some((m) => asked(at, m) && !answered(at, m)),
    unlike: (at) => !items.alike[at],
  };
  const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
  const SORT = {
    worst: () => 0, /* the order the page came in */
    id: (x, y) => items.id[x].localeCompare(items.id[y], undefined, { numeric: true }),
    usd: (x, y) => sum(items.usd[y]) - sum(items.usd[x]),
    s: (x, y) => Math.max(...items.s[y]) - Math.max(...items.s[x]),
  };

  function confused(at) {
    const m = models.findIndex((model) => model.name === confusion.model);
    if (items.truth[at] < 0 || text(items.truth[at]).trim().toLowerCase() !== confusion.truth) return false;
    const said = label(items.code[at][m]);
    if (confusion.said === "no answer") return said === "";
    if (confusion.said === "another label") return said !== "" && !truths.some((name) => name.trim().toLowerCase() === said);
    return said === confusion.said;
  }

  function pass(at, state) {
    if (!SHOW[state.show](at)) return false;
    if (state.prompt && items.prompt[at] !== state.prompt) return false;
    if (state.truth && text(items.truth[at]) !== state.truth) return false;
    if (state.a !== "" && state.b !== "" && !differ(at, +state.a, +state.b)) return false;
    const one = state.a === "" ? state.b : state.a;
    if ((state.a === "") !== (state.b === "") && !every.some((m) => differ(at, +one, m))) return false;
    if (confusion && !confused(at)) return false;
    return !state.q || state.q.toLowerCase().split(/\s+/).every((word) => words(at).includes(word));
  }

  const read = () => Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field ? field.value : ""]));

  function update(keepPage) {
    const state = read();
    found = [];
    for (let at = 0; at < count; at++) if (pass(at, state)) found.push(at);
    found.sort(SORT[state.sort]);
    if (!keepPage) page = 0;
    remember(state);
    mark(state);
    draw();
  }

  function remember(state) {
    const parts = Object.entries(state).filter(([name, value]) => value !== start[name]);
    const hash = parts.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    try { history.replaceState(null, "", hash ? `#answers?${hash}` : location.pathname + location.search); } catch { /* not kept */ }
  }

  function recall() {
    const query = location.hash.split("?")[1];
    if (!query) return;
    for (const [name, value] of new URLSearchParams(query)) { // reads any text, also half an escape
      const field = Object.hasOwn(fields, name) ? fields[name] : null;
      if (field) field.value = value;
    }
    for (const name of ["show", "sort"]) if (!fields[name].value) fields[name].value = start[name];
    $("answers").scrollIntoView();
  }

  function mark(state) {
    document.querySelectorAll("#pairs button.cell").forEach((cell) => {
      cell.setAttribute("aria-pressed", String(cell.dataset.a === state.a && cell.dataset.b === state.b));
    });
    document.querySelectorAll(".confusion button.cell").forEach((cell) => {
      const same = confusion && cell.dataset.model === confusion.model && cell.dataset.truth === confusion.truth;
      cell.setAttribute("aria-pressed", String(Boolean(same && cell.dataset.said === confusion.said)));
    });
  }

  const money = (usd) => (usd === null ? "" : "$" + (usd >= 0.01 ? usd.toFixed(4) : Number(usd.toPrecision(3)).toString()));
  function verdictOf(at, m) {
    if (!answered(at, m)) return [data.status[items.state[at][m]], "bad"];
    if (items.right[at][m] < 0) return ["", ""];
    return items.right[at][m] ? ["right", "good"] : ["wrong", "bad"];
  }

  /* The whole answer behind a toggle where a label stands for it; a list of objects as a table. */
  function whole(more, said) {
    let value = null;
    try { value = JSON.parse(more); } catch { /* text, or cut */ }
    const shown = table(value) || el("span", { class: "more", text: more });
    return said ? el("details", { class: "raw" }, el("summary", { text: "whole answer" }), shown) : shown;
  }

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  function table(value) {
    const lists = isObject(value) ? Object.values(value).filter(Array.isArray) : [];
    const list = Array.isArray(value) ? value : lists.length === 1 ? lists[0] : [];
    if (!list.length || !list.every(isObject)) return null;
    const keys = [...new Set(list.flatMap(Object.keys))].slice(0, 12);
    const plain = (cell) => (cell === undefined ? "" : typeof cell === "string" ? cell : JSON.stringify(cell));
    const rest = isObject(value) ? Object.entries(value).filter(([, held]) => held !== list) : [];
    return el("div", { class: "scroll small" },
      ...rest.map(([key, held]) => el("p", { class: "more", text: `${key}: ${plain(held)}` })),
      el("table", {},
        el("thead", {}, el("tr", {}, ...keys.map((key) => el("th", { scope: "col", text: key })))),
        el("tbody", {}, ...list.slice(0, 30).map((row) => el("tr", {}, ...keys.map((key) => el("td", { text: plain(row[key]) })))))));
  }

  function answer(at, m) {
    const [word, tone] = verdictOf(at, m);
    const said = label(items.code[at][m]);
    const more = text(items.said[at][m]);
    const facts = [money(items.usd[at][m]), items.s[at][m] === null ? "" : `${items.s[at][m].toFixed(2)} s`].filter(Boolean).join(" · ");
    return el("li", { class: `answer is-${tone}` },
      el("span", { class: "who" }, el("span", { class: `swatch k${models[m].colour}` }), models[m].short),
      el("span", { class: "said" },
        said ? el("strong", { text: said }) : null,
        more ? whole(more, said) : null,
        !said && !more && answered(at, m) ? el("em", { class: "muted", text: "empty" }) : null),
      el("span", { class: "facts muted" }, word ? el("span", { class: `mark ${tone}`, text: word }) : null, facts));
  }

  function picture(at) {
    const uri = items.uri[at];
    const thumb = items.pic[at] < 0 ? null : data.thumbs[items.pic[at]];
    if (thumb) return el("img", { src: thumb, alt: `Preview of ${items.id[at]}` });
    return el("span", { class: "nopic muted", text: uri ? "no preview" : "no media", "aria-hidden": "true" });
  }

  function card(at) {
    const expected = text(items.truth[at]);
    return el("li", { class: "item", tabindex: "-1" },
      el("div", { class: "pic" }, picture(at)),
      el("div", { class: "body" },
        el("h3", {}, items.id[at], prompts.length > 1 ? el("span", { class: "muted", text: ` · ${items.prompt[at]}` }) : null,
          " ", items.alike[at] ? null : el("span", { class: "badge warn", text: "seen differently" })),
        expected ? el("p", { class: "expected" }, "Expected ", el("strong", { text: expected })) : null,
        items.uri[at] ? el("p", { class: "uri small" }, link(items.uri[at], items.uri[at])) : null,
        el("ul", { class: "answers" }, ...every.filter((m) => asked(at, m)).map((m) => answer(at, m)))));
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    $("cards").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    const left = data.total > count ? ` (the page carries the worst ${count.toLocaleString("en")}; the dataset has all)` : "";
    const cell = confusion ? `; ${confusion.truth} answered as ${confusion.said}` : "";
    $("shown").textContent = `${found.length.toLocaleString("en")} of ${data.total.toLocaleString("en")} items${cell}${left}`;
    $("page-at").textContent = `Page ${page + 1} of ${pages.toLocaleString("en")}`;
    $("page-back").disabled = page === 0;
    $("page-on").disabled = page === pages - 1;
  }

  function turn(by) {
    page += by;
    draw();
    $("answers").scrollIntoView();
  }

  function step(by) {
    const cards = [...$("cards").children];
    const now = cards.indexOf(document.activeElement.closest ? document.activeElement.closest(".item") : null);
    const next = cards[Math.min(Math.max(now + by, 0), cards.length - 1)];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  }

  const KEYS = { "/": () => fields.q.focus(), j: () => step(1), k: () => step(-1), n: () => turn(1), p: () => turn(-1) };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) {
      if (event.key === "Escape" && event.target === fields.q) { fields.q.value = ""; update(); fields.q.blur(); }
      return;
    }
    if (Object.hasOwn(KEYS, event.key)) { event.preventDefault(); KEYS[event.key](); }
  });

  Object.values(fields).forEach((field) => field && field.addEventListener("input", () => { confusion = null; update(); }));
  $("f-reset").addEventListener("click", () => {
    confusion = null;
    Object.entries(fields).forEach(([name, field]) => { if (field) field.value = start[name]; });
    update();
  });
  $("page-back").addEventListener("click", () => turn(-1));
  $("page-on").addEventListener("click", () => turn(1));
  document.querySelectorAll("#pairs button.cell").forEach((cell) => cell.addEventListener("click", () => {
    const again = cell.getAttribute("aria-pressed") === "true";
    fields.a.value = again ? "" : cell.dataset.a;
    fields.b.value = again ? "" : cell.dataset.b;
    fields.show.value = again ? start.show : "all";
    confusion = null;
    update();
    if (!again) $("answers").scrollIntoView();
  }));
  document.querySelectorAll(".confusion button.cell").forEach((cell) => cell.addEventListener("click", () => {
    const { model, truth, said } = cell.dataset;
    const again = cell.getAttribute("aria-pressed") === "true";
    Object.entries(fields).forEach(([name, field]) => { if (field) field.value = start[name]; });
    confusion = again ? null : { model, truth, said };
    if (!again) fields.show.value = "all";
    update();
    if (!again) $("answers").scrollIntoView();
  }));

  if (!SHOW.differ || !items.spread.some((spread) => spread > 0)) fields.show.value = "all";
  recall();
  update();
});
