"use strict";

const cards = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.getElementById("rows").tBodies[0].rows];
const form = document.getElementById("filter");
const search = document.getElementById("search");
const selects = [...form.querySelectorAll("select")];
const dialog = document.getElementById("card");
const shown = document.getElementById("shown");

/* Nothing of the data becomes markup: text is text. */
function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...(Array.isArray(content) ? content : [content]));
  return made;
}

/* A column that says nothing in any line is left out. */
function table(titles, all, label) {
  const kept = titles.map((_, at) => all.some((line) => line[at] !== ""));
  const [heads, ...lines] = [titles, ...all].map((line) => line.filter((_, at) => kept[at]));
  const head = element("tr", heads.map((text) => element("th", text, { scope: "col" })));
  const body = lines.map((line) => element("tr", line.map((cell) => element("td", cell))));
  const made = element("table", [element("thead", [head]), element("tbody", body)]);
  return element("div", [made], { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
}

function copied(text, what) {
  const button = element("button", "Copy", { type: "button", "aria-label": `Copy ${what}` });
  const block = element("pre", text, { tabindex: "0" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Not every browser lets a page of the disk write there: it is selected, to be copied by hand.
      getSelection().selectAllChildren(block);
      button.textContent = "Selected";
    }
  });
  return [block, button];
}

const link = ([text, href]) => element("a", text, { href, download: "" });

function* artifact(one, several) {
  if (several) yield element("h3", `${one.id}: ${one.format}, ${one.precision}`);
  else yield element("h3", "File");
  yield element("p", one.error);
  const files = one.files.map((file) => [link(file), file[2], element("code", file[3])]);
  yield table(["file", "size", "SHA-256"], files, `Files of ${one.id}`);
  if (one.latency.length) {
    const heads = ["latency on", "median", "threads", "shapes", "machine", "measured"];
    yield table(heads, one.latency, `Latency of ${one.id}`);
  }
  if (one.load) yield* copied(one.load, `how to load ${one.id}`);
  if (one.view) {
    yield element("p", ["Graph, in Netron on this machine: ", element("code", one.view)]);
  }
}

function* content(card) {
  const close = element("button", "Close", { type: "button" });
  close.addEventListener("click", () => dialog.close());
  yield element("div", [element("h2", card.name, { id: "card-title" }), close], { class: "title" });
  if (card.state) yield element("p", [element("em", card.state)]);
  yield element("dl", card.facts.flatMap(([key, value]) => [element("dt", key), element("dd", value)]));
  yield element("h3", "Inputs and outputs");
  yield table(["kind", "name", "type", "shape"], card.tensors, "Inputs and outputs");
  if (card.verified.length) {
    yield element("h3", "Verified on");
    yield element("ul", card.verified.map((text) => element("li", text)));
  }
  for (const one of card.artifacts) yield* artifact(one, card.artifacts.length > 1);
  yield element("h3", "Versions");
  const versions = card.versions.map(([folder, href, ...rest]) => [
    element("a", folder, { href: `${href}/` }), ...rest,
  ]);
  yield table(["folder", "run", "date", "commit"], versions, "Versions");
  if (card.ops.length) {
    yield element("h3", "Operators of the graph");
    const ops = card.ops.map(([name, count]) => [name, String(count)]);
    yield table(["operator", "nodes"], ops, "Operators of the graph");
  }
}

function open(place) {
  dialog.replaceChildren(...content(cards[place]));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#${encodeURIComponent(cards[place].name)}`);
}

dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname));

const words = rows.map((row, place) => {
  const facts = cards[place].facts.map(([, value]) => value).join(" ");
  return `${cards[place].name} ${facts}`.toLowerCase();
});

// Where each column stands: not every zoo has all of them.
const heads = document.getElementById("rows").tHead.rows[0].cells;
const at = Object.fromEntries([...heads].map((head, place) => [head.dataset.key, place]));

const fits = {
  task: (row, value) => row.cells[at.task].textContent === value,
  tag: (row, value) => row.dataset.tags.split(" ").includes(value),
  precision: (row, value) => row.cells[at.precision].textContent.split(", ").includes(value),
  opset: (row, value) => row.cells[at.opset].textContent === value,
  bytes: (row, value) => Number(row.dataset.bytes) <= Number(value),
};

function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/);
  const chosen = selects.filter((select) => select.value);
  let count = 0;
  rows.forEach((row, place) => {
    row.hidden = !(
      wanted.every((word) => words[place].includes(word)) &&
      chosen.every((select) => fits[select.dataset.by](row, select.value))
    );
    count += !row.hidden;
  });
  shown.textContent = `${count} of ${rows.length}`;
}

rows.forEach((row, place) => {
  const button = element("button", row.cells[0].textContent, { type: "button" });
  button.addEventListener("click", () => open(place));
  row.cells[0].replaceChildren(button);
});
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();

const named = decodeURIComponent(location.hash.slice(1));
const asked = cards.findIndex((card) => card.name === named);
if (named && asked >= 0) open(asked);
