"use strict";

/* The table: a text with a line for each row. Rows become elements as they come near the window:
   of ten thousand nobody looks at all. */

const plain = document.getElementById("plain");
const form = document.getElementById("filter");
const region = plain.parentElement;
const [head, ...lines] = plain.textContent.slice(0, plain.textContent.lastIndexOf("</tbody>"))
  .trim().split(/\n(?=<tr |<tbody>)/).filter((line) => line !== "<tbody>");
plain.remove();
region.insertAdjacentHTML("afterbegin", `${head}<tbody></tbody></table><p class="end"></p>`);
const table = document.getElementById("rows");
const body = table.tBodies[0];
table.setAttribute("aria-rowcount", lines.length + 1);
form.hidden = false;

const ENTITIES = { "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'", "&amp;": "&" };

function decoded(text) {
  return text.replace(/&(?:lt|gt|amp|#34|#39);/g, (entity) => ENTITIES[entity]);
}

/* What stands in the cells of a line: their attributes, and their text. */
function cellsOf(line) {
  return line.split(/<t[hd](?= |>)/).slice(1).map((cell) => {
    const end = cell.indexOf(">");
    return [cell.slice(0, end), decoded(cell.slice(end + 1).replace(/<[^>]*>/g, ""))];
  });
}

/* Sorting: numbers by data-value, everything else by its text; what has no value comes last. */

function number(value) {
  if (value === undefined || value.trim() === "") return null;
  if (value === "inf") return Infinity;
  const found = Number(value);
  return Number.isNaN(found) ? null : found;
}

function key([attributes, text], numeric) {
  if (attributes.includes("data-none")) return null;
  if (!numeric) return text.trim();
  return number(/data-value="([^"]*)"/.exec(attributes)?.[1] ?? text);
}

const text = new Intl.Collator("en", { numeric: true });

/* The columns of a table by their buttons: `sorted` is given the order of the rows. */
function sortable(table, count, keyOf, sorted) {
  const heads = [...table.tHead.rows[0].cells];
  let order = [...Array(count).keys()];

  function sort(column) {
    const head = heads[column];
    const number = head.classList.contains("number");
    const was = head.getAttribute("aria-sort");
    // The largest number is what one looks for, and the first name.
    const descending = was ? was === "ascending" : number;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    const keyed = order.map((row) => [keyOf(row, column, number), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (number ? (a > b) - (a < b) : text.compare(a, b));
    });
    order = keyed.map(([, row]) => row);
    sorted(order);
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(column));
  });
}

const AT_ONCE = 200;
const parser = document.createElement("template");
let order = [...lines.keys()];
let matches = order;
let drawn = 0;

function more(count = AT_ONCE) {
  parser.innerHTML = matches.slice(drawn, drawn + count).map((row) => lines[row]).join("");
  [...parser.content.children].forEach((row, at) => {
    row.setAttribute("aria-rowindex", drawn + at + 2);
  });
  body.append(parser.content);
  drawn = Math.min(drawn + count, matches.length);
}

function redraw() {
  body.replaceChildren();
  drawn = 0;
  more();
}

const end = region.querySelector(".end");
const atEnd = new IntersectionObserver(([{ isIntersecting }]) => {
  if (!isIntersecting || drawn === matches.length) return;
  more();
  // Looked at again, since it may be near still.
  atEnd.unobserve(end);
  atEnd.observe(end);
}, { root: region, rootMargin: "1000px" });
atEnd.observe(end);
addEventListener("beforeprint", () => more(matches.length));

sortable(
  table,
  lines.length,
  (row, column, numeric) => key(cellsOf(lines[row])[column], numeric),
  (found) => {
    order = found;
    filter();
  },
);

/* Filtering. */

const search = document.getElementById("search");
const choices = [...form.querySelectorAll("select")].map((choice) => [
  choice.id.replace("by-", ""), choice,
]);
const columnOf = Object.fromEntries(
  [...table.tHead.rows[0].cells].map((head, column) => [head.dataset.key, column]),
);
let searched = null;

/* Worked out when it is first needed: what each row is found by. */
function facts(row) {
  searched ??= lines.map((line) => {
    const cells = cellsOf(line).map(([, text]) => text);
    const said = /^<tr[^>]* data-search="([^"]*)"/.exec(line)?.[1] ?? "";
    return {
      words: `${cells[0]} ${cells[columnOf.source] ?? ""} ${decoded(said)}`.toLowerCase(),
      status: /^<tr data-status="([^"]*)"/.exec(line)[1],
      exporter: cells[columnOf.exporter],
      opset: cells[columnOf.opset],
    };
  });
  return searched[row];
}

function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter((word) => word);
  const chosen = choices.filter(([, { value }]) => value);
  matches = !wanted.length && !chosen.length ? order : order.filter((row) => {
    const found = facts(row);
    return chosen.every(([name, { value }]) => found[name] === value)
      && wanted.every((word) => found.words.includes(word));
  });
  redraw();
  const shown = document.getElementById("shown");
  shown.textContent = `${matches.length} of ${lines.length} ${shown.dataset.what}`;
}

search.addEventListener("input", filter);
for (const [, choice] of choices) choice.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("show-all").addEventListener("click", () => {
  for (const field of [search, ...choices.map(([, choice]) => choice)]) field.value = "";
  filter();
});
filter();
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

  sortable(cells, lines.length, (row, column, numeric) => {
    const cell = lines[row].cells[column];
    return numeric ? number(cell.dataset[figure.value]) : cell.textContent.trim();
  }, (found) => cells.tBodies[0].append(...found.map((row) => lines[row])));
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

/* The sections of the models: of many they are packed until they come near the window. */

async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

const chunks = [...document.querySelectorAll(".chunk")];

async function fill(chunk) {
  const held = chunk.querySelector("script");
  if (!held) return;
  nearby.unobserve(chunk);
  const made = await unpacked(held.textContent);
  if (!held.isConnected) return; // asked for twice
  chunk.innerHTML = made;
  chunk.removeAttribute("style");
}

const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) fill(target);
}, { rootMargin: "600px" });
for (const chunk of chunks) nearby.observe(chunk);

async function openEach(open) {
  if (open) await Promise.all(chunks.map(fill));
  for (const section of document.querySelectorAll("details.model")) section.open = open;
}
document.getElementById("open-all").addEventListener("click", () => openEach(true));
document.getElementById("close-all").addEventListener("click", () => openEach(false));

/* Sections are in the order of the rows, so many in a chunk. */
let places = null;
function chunkOf(name) {
  if (!chunks.length) return undefined;
  places ??= new Map(lines.map((line, row) => [cellsOf(line)[0][1], row]));
  return chunks[Math.floor(places.get(name) / chunks[0].dataset.count)];
}

async function openTarget() {
  let name;
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // no name of ours
  }
  const chunk = name.startsWith("model-") && chunkOf(name.slice("model-".length));
  if (chunk) await fill(chunk);
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

let plotly = null;
function startPlotly() {
  plotly ??= unpacked(document.getElementById("plotly-source").textContent).then((source) => {
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
  });
  return plotly;
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    startPlotly().then(() => {
      draw(target);
      target.dataset.drawn = "yes";
    });
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
