"use strict";

const rows = [...document.getElementById("strips").tBodies[0].rows];
const form = document.getElementById("filter");
const search = document.getElementById("search");
const only = document.getElementById("only");
const status = document.getElementById("by-status");
const shown = document.getElementById("shown");
// Name and what happened: figures and letters are nothing to search for.
const words = rows.map((row) => `${row.cells[0].textContent} ${row.cells[2].textContent}`.toLowerCase());

function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/);
  let left = 0;
  rows.forEach((row, at) => {
    const fits = (!only.value || row.dataset.is.split(" ").includes(only.value))
      && (!status.value || row.dataset.status === status.value)
      && wanted.every((word) => words[at].includes(word));
    row.hidden = !fits;
    left += fits;
  });
  shown.textContent = `${left} of ${rows.length}`;
}

search.addEventListener("input", filter);
for (const choice of [only, status]) choice.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("show-all").addEventListener("click", () => {
  for (const field of [search, only, status]) field.value = "";
  filter();
});
// A browser that comes back to the page fills the form as it was left.
addEventListener("pageshow", filter);

/* Light and dark: the system's choice until the button is pressed. */

const theme = document.getElementById("theme");
const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkSystem.matches;
}

function showTheme() {
  theme.setAttribute("aria-pressed", String(isDark()));
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
darkSystem.addEventListener("change", showTheme);
showTheme();

// Without scripts these would do nothing.
form.hidden = theme.hidden = false;
