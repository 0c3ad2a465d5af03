/* The spend page: filters over the cube. Money is BigInt pico-dollars throughout; numbers only place pixels. */
mavi.data.then((cube) => {
  const $ = (id) => document.getElementById(id);
  const PICO = 1000000000000n;
  const FIELDS = ["cost", "useful", "invalid", "retried", "exposure"];
  const CONTROLS = ["from", "to", "model", "job", "gateway", "grain", "stack", "rows"];
  const BOUGHT = ["useful", "invalid", "retried"];
  const first = cube.days[0] || "", last = cube.days[cube.days.length - 1] || "";
  const pico = Object.fromEntries(["cost", "useful", "invalid", "exposure"].map((name) => [name, cube.pico[name + "_pico"].map(BigInt)]));
  const calls = cube.count.calls, throttled = cube.count.throttled_calls;
  const errors = calls.map((_, i) => cube.count.rejected_calls[i] + cube.count.failed_calls[i] + cube.count.in_doubt_calls[i]);
  const unpriced = cube.count.unpriced_calls;
  let allDigits = false;

  /* ---- dollars ---- */
  const grouped = (whole) => whole.toString().replace(/\B(?=(\d{3})+$)/g, ",");
  function exact(amount) {
    const sign = amount < 0n ? "−" : "", size = amount < 0n ? -amount : amount;
    const decimals = (size % PICO).toString().padStart(12, "0");
    return sign + "$" + grouped(size / PICO) + "." + decimals;
  }
  /* Cents from a dollar on, three significant digits below; half away from zero. */
  function short(amount) {
    if (amount === 0n) return "$0";
    const sign = amount < 0n ? "−" : "", size = amount < 0n ? -amount : amount;
    let places = 2;
    if (size < PICO) places = Math.min(12, Math.max(2, 15 - size.toString().length));
    const unit = 10n ** BigInt(12 - places);
    const rounded = (size + unit / 2n) / unit, scale = 10n ** BigInt(places);
    let decimals = (rounded % scale).toString().padStart(places, "0");
    while (decimals.length > 2 && decimals.endsWith("0")) decimals = decimals.slice(0, -1);
    return sign + "$" + grouped(rounded / scale) + "." + decimals;
  }
  const money = (amount) => (allDigits ? exact(amount) : short(amount));
  const plainCount = (n) => n.toLocaleString("en-US");
  const share = (part, all) => (all ? (100 * part / all).toFixed(1) + "%" : "–");
  const dollarsOf = (amount) => Number(amount / 1000n) / 1e9;

  /* ---- state: in the address, so that a view can be sent on ---- */
  function autoGrain() {
    return cube.days.length <= 62 ? "day" : cube.days.length <= 400 ? "week" : "month";
  }
  const initial = () => ({ from: first, to: last, model: "", job: "", gateway: "", grain: autoGrain(), stack: "model", rows: "model" });
  function nameOf(id, value) { return value === "" ? "" : cube.names[id][Number(value)]; }
  function readAddress() {
    const wanted = new URLSearchParams(location.hash.split("?")[1] || "");
    const state = initial();
    for (const id of CONTROLS) {
      const value = wanted.get(id);
      if (value === null) continue;
      if (cube.names[id]) {
        const place = cube.names[id].indexOf(value);
        if (place >= 0) state[id] = String(place);
      } else if (id === "from" || id === "to") {
        if (/^\d{4}-\d{2}-\d{2}$/.test(value)) state[id] = value;
      } else if ([...$(id).options].some((option) => option.value === value)) state[id] = value;
    }
    for (const id of CONTROLS) $(id).value = state[id];
  }
  function writeAddress(state) {
    const plain = initial(), kept = new URLSearchParams();
    for (const id of CONTROLS) if (state[id] !== plain[id]) kept.set(id, cube.names[id] ? nameOf(id, state[id]) : state[id]);
    const text = kept.toString();
    if (text || location.hash.includes("?")) {
      try { history.replaceState(null, "", "#explore" + (text ? "?" + text : "")); } catch { /* a viewer without history: the view still works */ }
    }
  }
  const stateNow = () => Object.fromEntries(CONTROLS.map((id) => [id, $(id).value]));

  /* ---- sums ---- */
  const zero = () => ({ cost: 0n, useful: 0n, invalid: 0n, retried: 0n, exposure: 0n, calls: 0, errors: 0, throttled: 0, unpriced: 0 });
  function addCell(sums, i) {
    sums.cost += pico.cost[i];
    sums.useful += pico.useful[i];
    sums.invalid += pico.invalid[i];
    sums.retried += pico.cost[i] - pico.useful[i] - pico.invalid[i];
    sums.exposure += pico.exposure[i];
    sums.calls += calls[i];
    sums.errors += errors[i];
    sums.throttled += throttled[i];
    sums.unpriced += unpriced[i];
  }
  const periodOf = (grain, day) => (grain === "day" ? cube.days[day] : grain === "week" ? cube.weeks[day] : cube.days[day].slice(0, 7));
  function selected(state) {
    const from = state.from || first, to = state.to || last, places = [];
    const want = ["model", "job", "gateway"].map((id) => (state[id] === "" ? -1 : Number(state[id])));
    for (let i = 0; i < cube.at.length; i++) {
      const [day, ...which] = cube.at[i];
      if (cube.days[day] < from || cube.days[day] > to) continue;
      if (which.every((place, slot) => want[slot] < 0 || want[slot] === place)) places.push(i);
    }
    return places;
  }
  const SLOT = { model: 1, job: 2, gateway: 3 };
  function sumBy(places, keyOf) {
    const made = new Map();
    for (const i of places) {
      const key = keyOf(i);
      if (!made.has(key)) made.set(key, zero());
      addCell(made.get(key), i);
    }
    return made;
  }
  const byName = (dimension) => (i) => cube.names[dimension][cube.at[i][SLOT[dimension]]];

  /* ---- chart ---- */
  const NS = "http://www.w3.org/2000/svg";
  function svg(tag, props, text) {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(props)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function ticksTo(top) {
    if (!(top > 0)) return [0, 1];
    const raw = top / 5, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999) * power, marks = [];
    for (let n = 0; n <= Math.ceil(top / step - 1e-9); n++) marks.push(n * step);
    return marks;
  }
  function axisText(value) {
    if (value === 0) return "$0";
    const places = value >= 1 && Number.isInteger(Number(value.toPrecision(12))) ? 0 : value >= 1 ? 2 : Math.max(2, 1 - Math.floor(Math.log10(value)));
    return "$" + value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  }
  function seriesOf(state, places) {
    const periods = [...new Set(cube.days.map((day, at) => [day, at]).filter(([day]) => day >= (state.from || first) && day <= (state.to || last)).map(([, at]) => periodOf(state.grain, at)))];
    const keyOf = (i) => periodOf(state.grain, cube.at[i][0]);
    if (state.stack === "bought") {
      const sums = sumBy(places, keyOf);
      return [periods, BOUGHT.map((name, n) => ({ name, colour: [3, 2, 5][n], values: periods.map((p) => (sums.get(p) || zero())[name]) }))];
    }
    const totals = [...sumBy(places, byName(state.stack))].sort(([a, x], [b, y]) => (y.cost > x.cost ? 1 : y.cost < x.cost ? -1 : a < b ? -1 : 1));
    const shown = totals.slice(0, totals.length > 8 ? 7 : 8).map(([name]) => name);
    const place = new Map(shown.map((name, n) => [name, n]));
    const rest = totals.length - shown.length;
    const names = rest ? [...shown, rest + " more"] : shown;
    const at = new Map(periods.map((period, n) => [period, n]));
    const values = names.map(() => periods.map(() => 0n));
    for (const i of places) {
      const name = byName(state.stack)(i), n = place.has(name) ? place.get(name) : names.length - 1;
      values[n][at.get(keyOf(i))] += pico.cost[i];
    }
    return [periods, names.map((name, n) => ({ name, colour: n + 1, values: values[n] }))];
  }
  function chart(periods, series, width, label) {
    const height = 280, left = 64, right = 16, top = 26, bottom = 30;
    const sums = periods.map((_, p) => series.reduce((sum, one) => sum + (one.values[p] > 0n ? one.values[p] : 0n), 0n));
    const marks = ticksTo(sums.reduce((most, sum) => Math.max(most, dollarsOf(sum)), 0)), high = marks[marks.length - 1];
    const y = (value) => height - bottom - value / high * (height - top - bottom);
    const made = svg("svg", { class: "chart " + (width > 400 ? "wide" : "narrow"), viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    made.append(svg("text", { x: 4, y: 12 }, "US dollars"));
    for (const mark of marks) {
      made.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }));
      made.append(svg("text", { x: left - 7, y: y(mark) + 4, "text-anchor": "end" }, axisText(mark)));
    }
    const slot = (width - left - right) / Math.max(periods.length, 1), bar = Math.min(slot * 0.76, 46);
    const labelled = Math.max(1, Math.ceil(periods.length / Math.max(1, Math.floor((width - left - right) / 84))));
    periods.forEach((period, p) => {
      const x = left + (p + 0.5) * slot;
      let base = 0;
      for (const one of series) {
        const value = dollarsOf(one.values[p]);
        if (value <= 0) continue;
        const piece = svg("rect", { class: "fill bar k" + one.colour, x: (x - bar / 2).toFixed(1), width: bar.toFixed(1), y: y(base + value).toFixed(1), height: Math.max(y(base) - y(base + value), 0.5).toFixed(1) });
        piece.append(svg("title", {}, `${period}, ${one.name}: ${exact(one.values[p])}`));
        made.append(piece);
        base += value;
      }
      if ((periods.length - 1 - p) % labelled === 0) made.append(svg("text", { x: x.toFixed(1), y: height - 8, "text-anchor": "middle" }, period));
    });
    return made;
  }
  function drawTrend(state, places) {
    const [periods, series] = seriesOf(state, places);
    const stacked = state.stack === "bought" ? "what it bought" : state.stack;
    const label = `Spend by ${state.grain}, stacked by ${stacked}; the table below has the figures`;
    const legend = mavi.el("ul", { class: "legend" }, ...series.map((one) => mavi.el("li", {}, mavi.el("span", { class: "swatch k" + one.colour }), document.createTextNode(one.name))));
    $("trend").replaceChildren(mavi.el("figure", {}, chart(periods, series, 760, label), chart(periods, series, 360, label), legend));
  }

  /* ---- table ---- */
  let lines = [];
  function tableOf(state, places) {
    const period = state.rows === "period";
    const sums = [...sumBy(places, period ? (i) => periodOf(state.grain, cube.at[i][0]) : byName(state.rows))];
    sums.sort(([a, x], [b, y]) => (period ? (a < b ? -1 : 1) : y.cost > x.cost ? 1 : y.cost < x.cost ? -1 : a < b ? -1 : 1));
    return sums;
  }
  const HEADS = ["Spend", "Share", "Useful", "Invalid", "Retried", "In doubt (at most)", "Calls", "Errors", "Throttled"];
  function cells(sums, all) {
    const cash = (amount) => mavi.el("td", { class: "num" + (allDigits ? " exact" : ""), title: exact(amount), data: { value: String(amount) }, text: money(amount) });
    const part = all.cost > 0n ? Number(sums.cost * 100000n / all.cost) / 1000 : null;
    return [
      sums.unpriced && !sums.cost ? mavi.el("td", { class: "num", text: "cost unknown", data: { value: "–" } }) : cash(sums.cost),
      mavi.el("td", { class: "num", text: part === null ? "–" : part.toFixed(1) + "%", data: { value: part === null ? "–" : part } }),
      ...FIELDS.slice(1).map((name) => cash(sums[name])),
      mavi.el("td", { class: "num", text: plainCount(sums.calls), data: { value: sums.calls } }),
      mavi.el("td", { class: "num", text: share(sums.errors, sums.calls), data: { value: sums.calls ? sums.errors / sums.calls : "–" } }),
      mavi.el("td", { class: "num", text: share(sums.throttled, sums.calls), data: { value: sums.calls ? sums.throttled / sums.calls : "–" } }),
    ];
  }
  function drawTable(state, all) {
    const table = $("breakdown"), kind = state.rows === "period" ? state.grain : state.rows;
    const name = kind[0].toUpperCase() + kind.slice(1);
    table.caption.textContent = `Spend by ${kind}`;
    $("rounding").textContent = `As selected, days in ${cube.tz}. ` + (allDigits ? "Every digit is shown." : "Amounts are rounded to read; “All digits” shows the exact ones, and the CSV holds them.");
    const head = mavi.el("tr", {}, mavi.el("th", { scope: "col", text: name }), ...HEADS.map((text) => mavi.el("th", { scope: "col", class: "num", text })));
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...lines.map(([key, sums]) => mavi.el("tr", {}, mavi.el("th", { scope: "row", class: "wordy", text: key }), ...cells(sums, all))));
    table.tFoot.replaceChildren(mavi.el("tr", {}, mavi.el("th", { scope: "row", text: "Total" }), ...cells(all, all)));
    mavi.sortable(table);
  }
  function drawSelection(all) {
    const whole = BigInt(cube.total), same = all.cost === whole;
    const said = [
      mavi.el("span", { text: "Selected " }, mavi.el("strong", { class: "exact", id: "selected", text: exact(all.cost) })),
      mavi.el("span", { class: same ? "ok" : "muted", text: same ? "✓ equals the ledger total, to the last digit" : `of ${exact(whole)} in the ledger` }),
      mavi.el("span", { class: "muted", text: `${all.calls === 1 ? "1 call" : plainCount(all.calls) + " calls"} · in doubt up to ${short(all.exposure)}` }),
      all.unpriced ? mavi.el("span", { class: "bad", text: `calls without a known price: ${plainCount(all.unpriced)}` }) : null,
    ];
    $("selection").replaceChildren(...said.filter(Boolean));
  }
  function download(state) {
    const field = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? "'" : "") + text.replace(/"/g, '""')}"`;
    const plain = (amount) => exact(amount).replace("−", "-").replace(/[$,]/g, "");
    const rows = lines.map(([key, sums]) => [field(key), ...FIELDS.map((name) => plain(sums[name])), sums.calls, sums.errors, sums.throttled].join(","));
    const head = [state.rows === "period" ? state.grain : state.rows, "cost_usd", "useful_usd", "invalid_usd", "retried_usd", "exposure_usd", "calls", "errors", "throttled"].join(",");
    const address = URL.createObjectURL(new Blob([[head, ...rows].join("\n") + "\n"], { type: "text/csv" }));
    mavi.el("a", { href: address, download: "spend.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function draw() {
    const state = stateNow(), places = selected(state), all = zero();
    for (const i of places) addCell(all, i);
    lines = tableOf(state, places);
    drawSelection(all);
    drawTrend(state, places);
    drawTable(state, all);
    writeAddress(state);
  }
  for (const id of CONTROLS) $(id).addEventListener("change", draw);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", () => { for (const [id, value] of Object.entries(initial())) $(id).value = value; draw(); });
  $("digits").addEventListener("click", () => {
    allDigits = !allDigits;
    $("digits").setAttribute("aria-pressed", String(allDigits));
    draw();
  });
  $("csv").addEventListener("click", () => download(stateNow()));
  addEventListener("hashchange", () => { if (location.hash.includes("?")) { readAddress(); draw(); } });
  readAddress();
  draw();
});
