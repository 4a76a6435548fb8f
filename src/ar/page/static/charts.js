// Draws Vega-Lite specifications in the colours of the page. Expressions are interpreted, never evaluated: the
// page's policy forbids eval. What is shown on hover is put in as text.
"use strict";

const charts = (() => {
  const ON_DARK = { "#4D4D4D": "#D0D0D0", "#A3A3A3": "#8A8A8A", "#0072B2": "#3B9BDC" };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map(); // element to what draws it again

  const colour = (hex) => (dark.matches && ON_DARK[hex]) || hex;

  function themed(value) {
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
    return typeof value === "string" && value in ON_DARK ? colour(value) : value;
  }

  function look() {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    return {
      background: null,
      font: getComputedStyle(document.body).fontFamily,
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line },
      legend: text,
    };
  }

  // A hover shows lines of text beside the pointer.
  const tip = () => document.getElementById("tip");
  function tooltip(lines, event) {
    const box = tip();
    if (!lines || !lines.length) { box.hidden = true; return; }
    box.replaceChildren(...lines.map((line, place) => {
      const part = document.createElement(place ? "div" : "strong");
      part.textContent = line;
      return part;
    }));
    box.hidden = false;
    const left = Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8);
    const below = event.clientY + 18 + box.offsetHeight < window.innerHeight;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${below ? event.clientY + 18 : Math.max(8, event.clientY - box.offsetHeight - 12)}px`;
  }

  // Draws a specification into an element. `told` makes the lines of a mark's tooltip from its datum.
  async function draw(element, spec, { told = (datum) => (datum.tip ? [datum.tip] : []), clicked } = {}) {
    drawn.set(element, () => draw(element, spec, { told, clicked }));
    const whole = { ...themed(spec), datasets: spec.datasets };
    whole.config = merged(look(), whole.config || {});
    const { view } = await vegaEmbed(element, whole, {
      actions: false, ast: true, defaultStyle: false, renderer: "canvas", tooltip: () => {},
    });
    view.addEventListener("mousemove", (event, item) => tooltip(item && item.datum ? told(item.datum) : [], event));
    view.addEventListener("mouseout", () => tooltip([]));
    if (clicked) view.addEventListener("click", (_event, item) => item && item.datum && clicked(item.datum));
    element.removeAttribute("aria-busy");
    return view;
  }

  function merged(one, other) {
    const found = { ...one };
    for (const [key, value] of Object.entries(other))
      found[key] = value && typeof value === "object" && found[key] ? { ...found[key], ...value } : value;
    return found;
  }

  // The charts of a page whose data came along.
  function drawAll() {
    for (const element of document.querySelectorAll("[data-chart]")) {
      const data = element.querySelector("script");
      if (data) draw(element, JSON.parse(data.textContent));
    }
  }

  dark.addEventListener("change", () => { for (const again of [...drawn.values()]) again(); });
  window.addEventListener("scroll", () => tooltip([]), { passive: true });
  return { draw, drawAll, colour, onTheme: (call) => dark.addEventListener("change", call) };
})();
