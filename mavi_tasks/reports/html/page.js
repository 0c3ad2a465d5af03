"use strict";
/* Shared by every page. Text reaches the page by textContent only; nothing is ever parsed as HTML here. */
const mavi = (() => {
  async function unpack() {
    const raw = atob(document.getElementById("data").textContent);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).json();
  }

  /* el("td", {class: "num", text: value, data: {x: 1}, on: {click: f}}, child, ...) */
  function el(tag, props = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(props)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") made.textContent = value;
      else if (name === "data") Object.assign(made.dataset, value);
      else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  /* Only http(s) becomes a link; anything else stays text. */
  function link(uri, text) {
    const safe = /^https?:\/\//i.test(uri || "");
    if (!safe) return el("span", { text });
    return el("a", { href: uri, rel: "noopener noreferrer", target: "_blank", text });
  }

  const keyOf = (cell) => {
    const value = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(value);
    return value !== "" && Number.isFinite(number) ? number : value;
  };
  function inOrder(a, b) {
    const blank = (v) => v === "" || v === "–";
    if (blank(a) || blank(b)) return blank(a) - blank(b); /* not known comes last, whichever way */
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  }
  function sortBy(table, column, descending) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
    rows.sort(([a], [b]) => (descending && a !== "" && b !== "" && a !== "–" && b !== "–" ? inOrder(b, a) : inOrder(a, b)));
    body.append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      if (at === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
  /* <table data-sortable>: each heading becomes a button; cells may carry data-value. */
  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.dataset.sort === "no") return;
      const button = el("button", { type: "button", class: "sort", text: head.textContent.trim() });
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const now = head.getAttribute("aria-sort");
        sortBy(table, column, now ? now === "ascending" : numeric);
      });
      head.replaceChildren(button);
    });
  }

  function theme() {
    const root = document.documentElement;
    const keep = (name) => { try { localStorage.setItem("mavi-theme", name); } catch { /* private window: not kept */ } };
    try { const kept = localStorage.getItem("mavi-theme"); if (kept) root.dataset.theme = kept; } catch { /* likewise */ }
    document.getElementById("theme").addEventListener("click", () => {
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
      keep(root.dataset.theme);
    });
  }

  theme();
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  return { get data() { return unpack(); }, el, link, sortable, sortBy };
})();
