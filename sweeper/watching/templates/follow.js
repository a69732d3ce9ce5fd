"use strict";
// Asks every second how the sweep stands, while somebody looks, and shows a newer report.
const state = document.getElementById("state");
const away = document.getElementById("away");
const report = document.getElementById("report");
let tag = "";

function showReport() {
  const made = state.querySelector("header").dataset.report;
  const shown = report.dataset.shown;
  if (!made || made === shown || (shown && !document.getElementById("follow").checked)) return;
  const at = shown && report.contentWindow ? report.contentWindow.scrollY : 0;
  report.dataset.shown = made;
  report.addEventListener("load", () => report.contentWindow.scrollTo(0, at), { once: true });
  report.src = "report.html?" + made;
  report.hidden = false;
}

async function look() {
  const began = performance.now();
  if (!document.hidden) {
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch("state", { headers, cache: "no-store" });
      away.hidden = answer.ok || answer.status === 304;
      if (answer.ok) {
        const isOpen = state.querySelector("details[open]") !== null;
        tag = answer.headers.get("ETag");
        state.innerHTML = await answer.text();
        const details = state.querySelector("details");
        if (details) details.open = isOpen;
      }
    } catch {
      away.hidden = false;
    }
    if (report) showReport();
  }
  // A sweep that takes long to look at is looked at a fiftieth of the time.
  setTimeout(look, Math.min(10000, Math.max(1000, 50 * (performance.now() - began))));
}

if (report) showReport();
look();
