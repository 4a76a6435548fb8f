// The campaign's attempts in the browser: one filter for the table, the progress chart and the tree.
"use strict";

const campaign = (() => {
  const byId = (id) => document.getElementById(id);
  const PAGE = 60; // rows that are shown, and by which more are
  const SHAPES = { // as Vega draws them, in a box from -1 to 1
    circle: "M-.9,0A.9,.9,0,1,1,.9,0A.9,.9,0,1,1,-.9,0Z", square: "M-.8,-.8H.8V.8H-.8Z",
    diamond: "M-.75,0L0,-1L.75,0L0,1Z", cross: "M-.9,-.3H-.3V-.9H.3V-.3H.9V.3H.3V.9H-.3V.3H-.9Z",
    "triangle-up": "M-.9,.8L0,-.8L.9,.8Z", "triangle-down": "M-.9,-.8L0,.8L.9,-.8Z",
    "triangle-right": "M-.7,-.9L.9,0L-.7,.9Z",
  };
  let data, rows = new Map(), view = null, shown = PAGE, picked = [];
  let sort = { key: "number", down: true };
  const hidden = new Set(); // kinds that are left out
  let words = "", agent = "", newest = 0;

  const isStatic = () => Boolean(document.body.dataset.static);
  const place = (field) => data.fields.indexOf(field);
  function url(name) {
    if (!isStatic()) return `/experiment/${encodeURIComponent(name)}`;
    return `experiment/${encodeURIComponent(data.files[name] || `${name}.html`)}`;
  }

  function take(raw) {
    for (const values of raw) {
      const row = {};
      data.fields.forEach((field, at) => { row[field] = values[at]; });
      row.text = `${row.title}\n${row.name}\n${row.agent}\n${row.outcome}\n${row.reason}\n${row.why}`.toLowerCase();
      rows.set(row.name, row);
    }
  }

  // -- the filter ---------------------------------------------------------------------------------------------

  function readFilter() {
    const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...rows.values()].sort((a, b) => a.number - b.number || a.when - b.when);
    const from = newest ? (all.length ? all[all.length - 1].number : 0) - newest : -Infinity;
    return all.filter((row) => row.number > from && !hidden.has(row.kind) && (!agent || row.agent === agent)
      && parts.every((part) => row.text.includes(part)));
  }

  function keepFilter() {
    const given = new URLSearchParams();
    if (words) given.set("q", words);
    if (agent) given.set("agent", agent);
    if (newest) given.set("newest", newest);
    if (hidden.size) given.set("without", [...hidden].join(","));
    history.replaceState(null, "", `#${given}`);
  }

  function recallFilter() {
    const given = new URLSearchParams(location.hash.slice(1));
    words = given.get("q") || "";
    agent = given.get("agent") || "";
    newest = Number(given.get("newest")) || 0;
    hidden.clear();
    for (const kind of (given.get("without") || "").split(",").filter(Boolean)) hidden.add(kind);
    byId("q").value = words;
    byId("newest").value = newest || "";
  }

  // -- marks ----------------------------------------------------------------------------------------------------

  function element(tag, text, classes) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (classes) made.className = classes;
    return made;
  }

  const marks = new Map(); // kind to its mark, of which copies are shown

  function mark(kind) {
    if (!marks.has(kind)) marks.set(kind, makeMark(kind));
    return marks.get(kind).cloneNode(true);
  }

  function makeMark(kind) {
    const [, hue, shape] = data.kinds.find((one) => one[0] === kind) || ["", "#A3A3A3", "circle"];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "-1 -1 2 2");
    svg.setAttribute("class", "mark");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", SHAPES[shape] || SHAPES.circle);
    path.setAttribute("fill", charts.colour(hue));
    svg.append(path);
    return svg;
  }

  const number = (value) => (value === null ? "" : Number(value.toPrecision(6)).toString());
  const measured = (row) => (row.value === null ? ""
    : row.error ? `${digits(row.value, row.error)} ±${Number(row.error.toPrecision(2))}` : number(row.value));
  function digits(value, error) {
    const places = Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(error))));
    return value.toFixed(places);
  }
  const about = (row) => [row.title, [row.outcome, row.agent, row.name].filter(Boolean).join(" · "),
    row.gain ? `effect ${row.gain}` : "", row.value !== null ? measured(row) : "no value", row.reason].filter(Boolean);

  function drawKinds() {
    const counts = new Map();
    for (const row of rows.values()) counts.set(row.kind, (counts.get(row.kind) || 0) + 1);
    byId("kinds").replaceChildren(...data.kinds.filter(([kind]) => counts.has(kind)).map(([kind]) => {
      const button = element("button", "", "kind");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(kind)));
      button.append(mark(kind), ` ${kind} `, element("span", String(counts.get(kind)), "quiet"));
      button.addEventListener("click", () => {
        if (hidden.has(kind)) hidden.delete(kind); else hidden.add(kind);
        update();
      });
      return button;
    }));
    const agents = [...new Set([...rows.values()].map((row) => row.agent))].sort();
    const select = byId("agent");
    if (select.options.length !== agents.length + 1) {
      const first = element("option", "all agents");
      first.value = "";
      select.replaceChildren(first, ...agents.map((name) => element("option", name)));
    }
    select.value = agent;
  }

  // -- the table ----------------------------------------------------------------------------------------------

  function sorted(found) {
    const { key, down } = sort;
    const sign = down ? -1 : 1;
    return [...found].sort((a, b) => {
      const [one, two] = [a[key], b[key]];
      if (one === null || two === null) return (one === null) - (two === null);
      return sign * (typeof one === "string" ? one.localeCompare(two) : one - two) || b.number - a.number;
    });
  }

  function drawTable(found) {
    const body = byId("attempts").tBodies[0];
    body.replaceChildren(...sorted(found).slice(0, shown).map(line));
    byId("more").hidden = found.length <= shown;
    byId("more").textContent = `Show more (${(found.length - shown).toLocaleString("en")} left)`;
    byId("found").textContent = found.length === rows.size ? `${rows.size.toLocaleString("en")} attempts`
      : `${found.length.toLocaleString("en")} of ${rows.size.toLocaleString("en")} attempts`;
    for (const head of byId("attempts").tHead.rows[0].cells)
      if (head.dataset.sort) head.setAttribute("aria-sort", head.dataset.sort !== sort.key ? "none" : sort.down ? "descending" : "ascending");
  }

  function line(row) {
    const made = element("tr");
    const pick = element("input");
    pick.type = "checkbox";
    pick.checked = picked.includes(row.name);
    pick.setAttribute("aria-label", `Compare ${row.title}`);
    pick.addEventListener("change", () => choose(row.name, pick.checked));
    const first = element("td", undefined, "pick");
    first.append(pick);
    const outcome = element("td", undefined, "outcome");
    outcome.append(mark(row.kind), element("span", ` ${row.outcome}`));
    const title = element("td", undefined, "title");
    const link = element("a", row.title || row.name);
    link.href = url(row.name);
    title.append(link, " ", element("span", row.reason || row.name, "quiet"));
    const rest = [["effect", row.gain, "n"], ["value", measured(row), "n wide"], ["runs", String(row.runs), "n wide"],
      ["agent", row.agent, "wide"], ["tried", row.when ? new Date(1000 * row.when).toISOString().slice(0, 16).replace("T", " ") : "", "n wide quiet"]];
    made.append(first, outcome, title, ...rest.map(([, text, classes]) => element("td", text, classes)));
    made.dataset.name = row.name;
    return made;
  }

  function choose(name, on) {
    picked = picked.filter((one) => one !== name);
    if (on) picked = [...picked, name].slice(-2);
    for (const line of byId("attempts").tBodies[0].rows)
      line.querySelector("input").checked = picked.includes(line.dataset.name);
    const form = byId("compare");
    [form.elements.a.value, form.elements.b.value] = [picked[0] || "", picked[1] || ""];
    form.querySelector("button").disabled = picked.length < 2;
  }

  // -- the chart ------------------------------------------------------------------------------------------------

  function chartRows(found) {
    const { low, high, minimize } = data;
    const inset = 0.015 * (high - low), worst = minimize ? high - inset : low + inset;
    const isKept = (row) => row.kind === "promoted";
    return found.filter((row) => row.outcome !== "baseline" && row.outcome !== "queued" && row.outcome !== "running").map((row) => ({
      name: row.name, number: row.number, kind: row.kind, kept: isKept(row),
      y: row.value === null ? worst : Math.min(high - inset, Math.max(low + inset, row.value)),
      low: row.value === null || !row.error ? null : Math.max(low, row.value - row.error),
      high: row.value === null || !row.error ? null : Math.min(high, row.value + row.error),
    }));
  }

  // The branch's level: what was promoted, in its order. It stays whole whatever the filter says.
  function steps() {
    if (!data.base) return [];
    const kept = [...rows.values()].filter((row) => row.kind === "promoted" && row.value !== null).sort((a, b) => a.number - b.number);
    const levels = [{ number: 0, value: data.base[0], error: data.base[1] }, ...kept];
    const last = Math.max(1, ...[...rows.values()].map((row) => row.number)) + 0.5;
    return [...levels, { ...levels[levels.length - 1], number: last }].map((row) => ({
      number: row.number, y: row.value, low: row.value - (row.error || 0), high: row.value + (row.error || 0),
    }));
  }

  function tables(found) {
    const attempts = chartRows(found), line = steps();
    const last = line.length ? line[line.length - 1].number : 1;
    const first = attempts.length && newest ? Math.max(0, last - newest) : 0;
    const [value, error] = data.base || [0, 0];
    const bars = attempts.filter((row) => row.low !== null && (row.kept || attempts.length <= 40));
    const flat = data.base ? [first, last].map((number) => ({ number, y: value, low: value - error, high: value + error })) : [];
    return { attempts, bars, steps: line, base: flat, least: first, most: last + 0.5, count: attempts.length };
  }

  async function drawChart(found) {
    const figure = byId("progress");
    if (data.low === null || !rows.size) {
      figure.replaceChildren(element("p", "Nothing is measured yet.", "quiet"));
      return;
    }
    const told = tables(found);
    const dotSize = Math.min(60, Math.max(16, 3000 / Math.max(1, told.count)));
    const signals = { low: data.low, high: data.high, least: told.least, most: told.most, dotSize };
    if (!view) {
      const spec = structuredClone(data.progress);
      for (const layer of spec.layer)
        for (const [channel, place] of [["color", 1], ["shape", 2]])
          if (layer.encoding[channel] && layer.encoding[channel].scale)
            layer.encoding[channel].scale = { domain: data.kinds.map((one) => one[0]), range: data.kinds.map((one) => charts.colour(one[place])) };
      for (const param of spec.params) param.value = signals[param.name];
      if (window.innerWidth < 600) spec.height = 260;
      spec.datasets = { attempts: told.attempts, bars: told.bars, steps: told.steps, base: told.base };
      view = charts.draw(figure, spec, {
        told: (datum) => (rows.has(datum.name) ? about(rows.get(datum.name)) : []),
        clicked: (datum) => { if (rows.has(datum.name)) location.href = url(datum.name); },
      });
      view = await view;
      return;
    }
    const ready = await view;
    for (const name of ["attempts", "bars", "steps", "base"])
      ready.change(name, vega.changeset().remove(() => true).insert(told[name]));
    for (const [name, value] of Object.entries(signals)) ready.signal(name, value);
    ready.runAsync();
  }

  // -- the tree -------------------------------------------------------------------------------------------------

  // It is built once it comes into view, and anew when the data change; the filter fades what it leaves out.
  let leafOf = null, boxOf = [], isTreeSeen = false;

  function fadeTree(found) {
    if (!leafOf) return;
    const wanted = new Set(found.map((row) => row.name));
    for (const [name, leaf] of leafOf) leaf.classList.toggle("faded", !wanted.has(name));
  }

  function drawTree() {
    leafOf = new Map();
    boxOf = [];
    const byState = data.states.map(() => []);
    for (const row of [...rows.values()].sort((a, b) => a.number - b.number))
      if (byState[row.state] && row.outcome !== "baseline") byState[row.state].push(row);
    byId("tree").replaceChildren(...data.states.map(([name, title, level], at) => {
      const item = element("li");
      const head = element("div", undefined, "trunk");
      const link = element(name ? "a" : "span", title);
      if (name) link.href = url(name);
      head.append(mark(at ? "promoted" : "baseline"), " ", link, " ", element("span", level, "quiet"));
      item.append(head, leaves(byState[at], at));
      return item;
    }));
  }

  function leafFor(row) {
    const leaf = element("a", undefined, "leaf");
    leaf.href = url(row.name);
    leaf.title = about(row).join("\n");
    leaf.append(mark(row.kind));
    const isOpen = ["queued", "running", "open", "winner"].includes(row.outcome);
    if (isOpen && row.state === data.states.length - 1) leaf.append(` ${row.title}`);
    else leaf.setAttribute("aria-label", `${row.title}, ${row.outcome}`);
    leafOf.set(row.name, leaf);
    return leaf;
  }

  // Puts what is new into the tree that is there. Returns whether it could: not where the branch moved.
  function graft(fresh, states) {
    if (!leafOf || states !== data.states.length) return false;
    for (const row of fresh.map((values) => rows.get(values[place("name")]))) {
      const old = leafOf.get(row.name), box = boxOf[row.state];
      if (old) old.replaceWith(leafFor(row));
      else if (box && row.outcome !== "baseline") box.append(leafFor(row));
    }
    return true;
  }

  function leaves(tried, at) {
    const here = new Map(tried.map((row) => [row.name, row]));
    const isChild = (row) => row.builds_on && here.has(row.builds_on) && row.builds_on !== row.name;
    const children = new Map();
    for (const row of tried) if (isChild(row)) children.set(row.builds_on, [...(children.get(row.builds_on) || []), row]);
    const box = element("div", undefined, "leaves");
    boxOf[at] = box;
    const seen = new Set();
    const put = (row, into) => {
      if (seen.has(row.name)) return;
      seen.add(row.name);
      into.append(leafFor(row));
      for (const child of children.get(row.name) || []) { into.append(element("span", "–", "join")); put(child, into); }
    };
    for (const row of tried.filter((one) => !isChild(one))) {
      if (!children.has(row.name)) { put(row, box); continue; }
      const chain = element("span", undefined, "chain");
      put(row, chain);
      box.append(chain);
    }
    for (const row of tried) put(row, box); // what builds on each other in a circle
    return box;
  }

  // -- all of it ------------------------------------------------------------------------------------------------

  const PAUSE = 120; // ms after the last letter, from which on the chart and the tree follow the table
  let waits = 0, follows = 0;
  function update() {
    keepFilter();
    cancelAnimationFrame(waits);
    waits = requestAnimationFrame(redraw);
  }

  function redraw() {
    const found = readFilter();
    drawKinds();
    drawTable(found);
    clearTimeout(follows);
    follows = setTimeout(() => { drawChart(found); fadeTree(found); }, view ? PAUSE : 0);
  }

  function redrawTree() {
    if (!isTreeSeen) { leafOf = null; return; }
    drawTree();
    fadeTree(readFilter());
  }

  function news(text) {
    const { rows: fresh, ...rest } = JSON.parse(text);
    const states = data.states.length;
    Object.assign(data, rest);
    take(fresh);
    redraw();
    if (!graft(fresh, states)) redrawTree();
  }

  function start() {
    const block = byId("campaign");
    if (!block) return;
    data = JSON.parse(block.textContent);
    take(data.rows);
    delete data.rows;
    recallFilter();
    const search = byId("q");
    search.addEventListener("input", () => { words = search.value; shown = PAGE; update(); });
    byId("agent").addEventListener("change", (event) => { agent = event.target.value; update(); });
    byId("newest").addEventListener("change", (event) => { newest = Number(event.target.value); update(); });
    byId("filter").addEventListener("submit", (event) => event.preventDefault());
    byId("filter").addEventListener("reset", () => { words = agent = ""; newest = 0; hidden.clear(); setTimeout(update); });
    byId("more").addEventListener("click", () => { shown += 4 * PAGE; redraw(); });
    for (const head of byId("attempts").tHead.rows[0].cells)
      if (head.dataset.sort) head.querySelector("button").addEventListener("click", () => {
        const key = head.dataset.sort;
        sort = { key, down: key === sort.key ? !sort.down : !["title", "agent", "outcome", "effect"].includes(key) };
        redraw();
      });
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); search.focus(); }
    });
    window.addEventListener("hashchange", () => { recallFilter(); redraw(); });
    charts.onTheme(() => { view = null; marks.clear(); redraw(); redrawTree(); });
    redraw();
    new IntersectionObserver(([seen]) => {
      isTreeSeen = seen.isIntersecting;
      if (isTreeSeen && !leafOf) redrawTree();
    }, { rootMargin: "300px" }).observe(byId("tree"));
  }

  return { start, news };
})();
