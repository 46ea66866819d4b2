"use strict";
// The page works without this script: it filters the list of results by their text and by the words of data-words, and opens folded parts for printing.
const field = document.getElementById("filter");
if (field) {
  const entries = [...document.querySelectorAll("[data-entry]")];
  const status = document.getElementById("filter-status");
  const apply = () => {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const text = `${entry.textContent} ${entry.dataset.words ?? ""}`.toLowerCase();
      const fits = wanted.every((word) => text.includes(word));
      entry.hidden = !fits;
      document.getElementById(entry.dataset.entry).hidden = !fits;
      shown += fits;
    }
    for (const part of document.querySelectorAll("[data-holds]")) {
      part.hidden = !part.querySelector(".lines > li:not([hidden])");
    }
    status.textContent = wanted.length ? `${shown} of ${entries.length} shown` : "";
  };
  field.closest("[hidden]").hidden = false;
  field.addEventListener("input", apply);
  apply();
}
const folded = "details:not([open]):not(.settings)";
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll(folded)) {
    part.open = true;
    part.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("[data-printed]")) {
    part.open = false;
    delete part.dataset.printed;
  }
});
