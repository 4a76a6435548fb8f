// What is common to all pages: the clock of what runs, the state of the connection, what the server sends.
"use strict";

(() => {
  function tick() {
    for (const one of document.querySelectorAll("[data-began]")) {
      const seconds = Math.max(0, Date.now() / 1000 - Number(one.dataset.began));
      if (one.tagName === "PROGRESS") one.value = Math.min(one.max, seconds);
      else {
        const whole = Math.floor(seconds), pad = (value) => String(value).padStart(2, "0");
        const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
        one.textContent = hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
      }
    }
  }

  function start() {
    const isStatic = Boolean(document.body.dataset.static);
    const live = document.getElementById("live");
    if (live) {
      const say = (text, isOn) => { live.textContent = text; live.classList.toggle("on", isOn); };
      if (!document.querySelector("[sse-connect]")) say("", false);
      document.body.addEventListener("htmx:sseOpen", () => say("live", true));
      document.body.addEventListener("htmx:sseError", () => say("the server is away", false));
    }
    // Data go to the scripts, and everything else is swapped in by htmx.
    document.body.addEventListener("htmx:sseBeforeMessage", (event) => {
      const { type, data } = event.detail;
      if (type === "rows") { event.preventDefault(); campaign.news(data); }
      if (type === "over") { event.preventDefault(); location.reload(); }
      if (type === "curve") {
        event.preventDefault();
        const spec = JSON.parse(data), figure = document.getElementById("curve");
        if (spec && figure) charts.draw(figure, spec);
      }
    });
    document.body.addEventListener("htmx:afterSwap", tick);
    charts.drawAll();
    campaign.start();
    if (!isStatic) { tick(); setInterval(tick, 1000); }
  }

  document.addEventListener("DOMContentLoaded", start);
})();
