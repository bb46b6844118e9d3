"use strict";

const table = document.getElementById("rows");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const form = document.getElementById("filter");

/* Sorting: numbers by data-value, everything else by its text; what has no value comes last. */

function key(row, column) {
  const cell = row.cells[column];
  if ("none" in cell.dataset) return null;
  if (!heads[column].classList.contains("number")) return cell.textContent.trim();
  const value = cell.dataset.value;
  return value === undefined ? null : value === "inf" ? Infinity : Number(value);
}

const text = new Intl.Collator("en", { numeric: true });

function sort(column) {
  const head = heads[column];
  const number = head.classList.contains("number");
  const was = head.getAttribute("aria-sort");
  // The largest number is what one looks for, and the first name.
  const descending = was ? was === "ascending" : number;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const sign = descending ? -1 : 1;
  const keyed = [...body.rows].map((row) => [key(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (number ? (a > b) - (a < b) : text.compare(a, b));
  });
  body.append(...keyed.map(([, row]) => row));
}

heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => sort(column));
});

/* Filtering. */

const search = document.getElementById("search");
const choices = ["status", "exporter", "opset"].map((name) => [
  name, document.getElementById(`by-${name}`),
]);
const searched = new Map();
for (const row of body.rows) {
  const source = row.querySelector("td.file")?.textContent ?? "";
  const words = `${row.cells[0].textContent} ${source} ${row.dataset.search}`;
  searched.set(row, words.toLowerCase());
}

function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const [row, words] of searched) {
    const fits = choices.every(([name, { value }]) => !value || row.dataset[name] === value);
    row.hidden = !(fits && wanted.every((word) => words.includes(word)));
    shown += !row.hidden;
  }
  const what = document.getElementById("shown").dataset.what;
  document.getElementById("shown").textContent = `${shown} of ${searched.size} ${what}`;
}

search.addEventListener("input", filter);
for (const [, choice] of choices) choice.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("show-all").addEventListener("click", () => {
  for (const field of [search, ...choices.map(([, choice]) => choice)]) field.value = "";
  filter();
});
// A browser that comes back to the page fills the form as it was left.
addEventListener("pageshow", filter);

/* Columns: a narrow screen starts with the verdicts only. */

const boxes = [...form.querySelectorAll("[data-columns]")];

function columns() {
  for (const box of boxes) table.classList.toggle(`no-${box.dataset.columns}`, !box.checked);
}

const narrow = matchMedia("(max-width: 700px)").matches;
for (const box of boxes) {
  const group = box.dataset.columns;
  box.checked = narrow ? group === "verification" : group !== "stages";
  box.addEventListener("change", columns);
}
columns();

/* The sections of the models. */

const sections = [...document.querySelectorAll("details.model")];
document.getElementById("open-all").addEventListener("click", () => {
  for (const section of sections) section.open = true;
});
document.getElementById("close-all").addEventListener("click", () => {
  for (const section of sections) section.open = false;
});

function openTarget() {
  let name;
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // no name of ours
  }
  const target = document.getElementById(name);
  if (!(target instanceof HTMLDetailsElement)) return;
  target.open = true;
  target.scrollIntoView();
  target.querySelector("summary").focus({ preventScroll: true });
}

addEventListener("hashchange", openTarget);
openTarget();
// A second click on the same link changes no hash.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#model-"]');
  if (link && link.hash === location.hash) openTarget();
});

/* Plots: Plotly is only started when the first of them comes near the window. */

function colours() {
  const style = getComputedStyle(document.body);
  const probe = document.createElement("span");
  probe.style.color = "var(--line)";
  document.body.append(probe);
  const line = getComputedStyle(probe).color;
  probe.remove();
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true, fixedrange: narrow };
  return { text: style.color, line, axis };
}

function draw(element) {
  const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
  const { text: ink, line, axis } = colours();
  const { layout } = figure;
  const shapes = (layout.shapes ?? []).map((shape) => ({
    ...shape, line: { ...shape.line, color: ink },
  }));
  const dressed = {
    ...layout,
    shapes,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    colorway: ["#3f83d6", "#d98214", "#2c9c74", "#c5568a", "#8d72d4", "#7f8f2f", "#b5593b", "#4f9dad"],
    margin: { l: 20, r: 20, t: 40, b: 60 },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal" },
    showlegend: true,
    dragmode: false,
    hoverlabel: { bordercolor: line },
  };
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.react(element, figure.data, dressed, options);
}

function startPlotly() {
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.textContent = document.getElementById("plotly-source").textContent;
  document.head.append(script);
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    startPlotly();
    draw(target);
    target.dataset.drawn = "yes";
  }
}, { rootMargin: "300px" });
for (const element of document.querySelectorAll(".plot")) near.observe(element);

/* Light and dark: the system's choice until the button is pressed. */

const theme = document.getElementById("theme");
const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkSystem.matches;
}

function showTheme() {
  theme.setAttribute("aria-pressed", String(isDark()));
  for (const element of document.querySelectorAll(".plot[data-drawn]")) draw(element);
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
darkSystem.addEventListener("change", showTheme);
showTheme();
