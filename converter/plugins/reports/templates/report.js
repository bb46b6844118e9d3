"use strict";

const table = document.getElementById("rows");
const body = table.tBodies[0];
const form = document.getElementById("filter");

/* Sorting: numbers by data-value, everything else by its text; what has no value comes last. */

function key(cell, number) {
  if ("none" in cell.dataset) return null;
  if (!number) return cell.textContent.trim();
  const value = cell.dataset.value;
  return value === undefined ? null : value === "inf" ? Infinity : Number(value);
}

const text = new Intl.Collator("en", { numeric: true });

function sortable(table, keyOf) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  function sort(column) {
    const head = heads[column];
    const number = head.classList.contains("number");
    const was = head.getAttribute("aria-sort");
    // The largest number is what one looks for, and the first name.
    const descending = was ? was === "ascending" : number;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    const keyed = [...body.rows].map((row) => [keyOf(row.cells[column], number), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (number ? (a > b) - (a < b) : text.compare(a, b));
    });
    body.append(...keyed.map(([, row]) => row));
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(column));
  });
}

sortable(table, key);

/* Filtering. */

const search = document.getElementById("search");
const choices = [...form.querySelectorAll("select")].map((choice) => [
  choice.id.replace("by-", ""), choice,
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

/* Runtimes and precisions: one figure in all cells, by which a column sorts. */

const cells = document.getElementById("cells");
if (cells) {
  const sought = document.getElementById("matrix-search");
  const verdict = document.getElementById("matrix-verdict");
  const figure = document.getElementById("matrix-figure");
  const shown = document.getElementById("matrix-shown");
  const lines = [...cells.tBodies[0].rows];

  function fits(row) {
    if (!row.cells[0].textContent.toLowerCase().includes(sought.value.toLowerCase())) return false;
    const came = row.dataset.verdicts.trim().split(" ");
    if (verdict.value === "all-ok") return came.every((one) => one === "ok");
    if (verdict.value === "not-ok") return came.some((one) => one !== "ok");
    return !verdict.value || came.includes(verdict.value);
  }

  function narrowCells() {
    for (const row of lines) row.hidden = !fits(row);
    const left = lines.filter((row) => !row.hidden).length;
    shown.textContent = `${left} of ${lines.length} ${shown.dataset.what}`;
  }

  function showFigure() {
    for (const { value } of figure.options) {
      cells.classList.toggle(`show-${value}`, value === figure.value);
    }
  }

  sortable(cells, (cell, number) => {
    if (!number) return cell.textContent.trim();
    const value = cell.dataset[figure.value];
    return value === undefined ? null : value === "inf" ? Infinity : Number(value);
  });
  sought.addEventListener("input", narrowCells);
  verdict.addEventListener("change", narrowCells);
  figure.addEventListener("change", showFigure);
  document.getElementById("matrix-filter").addEventListener("submit", (e) => e.preventDefault());
  addEventListener("pageshow", () => { narrowCells(); showFigure(); });
}

/* The best file for a budget. */

const budget = document.getElementById("budget");

function limits() {
  const number = (id) => {
    const { value } = document.getElementById(id);
    return value === "" ? Infinity : Number(value);
  };
  return {
    model: document.getElementById("budget-model").value,
    ms: number("budget-ms"),
    mb: number("budget-mb"),
  };
}

function within(point, { ms, mb }) {
  // What was not timed keeps no limit of time.
  return (ms === Infinity || (point.ms !== null && point.ms <= ms)) && point.mb <= mb;
}

function budgeted(figure) {
  const asked = limits();
  const data = figure.data.map((trace) => {
    const kept = trace.customdata.map((point, at) => [point, at])
      .filter(([point]) => !asked.model || point.model === asked.model);
    const of = (list) => kept.map(([, at]) => list[at]);
    return {
      ...trace,
      x: of(trace.x),
      y: of(trace.y),
      text: of(trace.text),
      customdata: of(trace.customdata),
      marker: {
        ...trace.marker, opacity: kept.map(([point]) => (within(point, asked) ? 0.9 : 0.12)),
      },
    };
  });
  return { ...figure, data };
}

function best(figure) {
  const asked = limits();
  // Each point is in two traces, of latency and of size: those of size have all.
  const points = figure.data.filter((trace) => trace.meta === "size")
    .flatMap((trace) => trace.customdata)
    .filter((point) => within(point, asked));
  if (!asked.model) {
    const models = new Set(points.map((point) => point.model));
    return `${models.size} of ${new Set(figure.models).size} models have a file within the budget. `
      + "Choose a model for its best one.";
  }
  const own = points.filter((point) => point.model === asked.model);
  if (!own.length) return `No file of ${asked.model} is within the budget.`;
  own.sort((a, b) => a.error - b.error || (a.ms ?? Infinity) - (b.ms ?? Infinity) || a.mb - b.mb);
  return `Least error within the budget: ${own[0].said}`;
}

if (budget) {
  const element = document.querySelector('[data-figure="figure-budget"]');
  const source = JSON.parse(document.getElementById("figure-budget").textContent);
  source.models = source.data.flatMap((trace) => trace.customdata.map((point) => point.model));
  const changed = () => {
    document.getElementById("budget-best").textContent = best(source);
    if ("drawn" in element.dataset) draw(element);
  };
  // A driver that chooses for a person fires the second alone.
  for (const event of ["input", "change"]) budget.addEventListener(event, changed);
  budget.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("pageshow", changed);
}

/* The sections of the models. */

const sections = [...document.querySelectorAll("details.model")];

/* What many models have is text until it is opened. */
function fill(section) {
  const held = section.querySelector(':scope > script[type="text/html"]');
  if (held) held.outerHTML = held.textContent;
}
for (const section of sections) {
  section.addEventListener("toggle", () => section.open && fill(section));
}
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
  fill(target);
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
  const stated = JSON.parse(document.getElementById(element.dataset.figure).textContent);
  const figure = element.dataset.figure === "figure-budget" ? budgeted(stated) : stated;
  const { text: ink, line, axis } = colours();
  const { layout } = figure;
  const shapes = (layout.shapes ?? []).map((shape) => ({
    ...shape, line: { ...shape.line, color: ink },
  }));
  const dressed = {
    ...layout,
    shapes,
    ...Object.fromEntries(
      Object.keys(layout).filter((name) => /^[xy]axis/.test(name))
        .map((name) => [name, { ...axis, ...layout[name] }]),
    ),
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    colorway: ["#3f83d6", "#d98214", "#2c9c74", "#c5568a", "#8d72d4", "#7f8f2f", "#b5593b", "#4f9dad"],
    margin: { l: 20, r: 20, t: 40, b: 60 },
    legend: {
      ...layout.legend, orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal",
    },
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
