"use strict";
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

/** The packed texts of an element, by its id. */
const unpacked = new Map();
function texts(id) {
  if (!unpacked.has(id)) {
    const bytes = Uint8Array.from(atob($("#" + id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(id, new Response(stream).json());
  }
  return unpacked.get(id);
}

/* light or dark */
$("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

/* the kernels' table */
const figures = $("#figures");
function sortBy(head) {
  const column = [...head.parentElement.children].indexOf(head);
  const body = figures.tBodies[0];
  const value = (row) => row.children[column].dataset.v;
  const numeric = [...body.rows].every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
  const before = head.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : numeric;
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) =>
    numeric ? Number(value(a) || -1) - Number(value(b) || -1) : collator.compare(value(a), value(b));
  body.append(...[...body.rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b))));
}
for (const head of $$("thead th", figures)) $("button", head).addEventListener("click", () => sortBy(head));

/* the graph: zoom, drag, neighbours, search */
const view = $(".viewport");
if (view) {
  const svg = $("svg", view);
  const width = Number(svg.dataset.width), height = Number(svg.dataset.height);
  let zoom = 1;
  function setZoom(next, x = view.clientWidth / 2, y = view.clientHeight / 2) {
    const old = svg.getBoundingClientRect(), box = view.getBoundingClientRect();
    const px = (x + box.left - old.left) / old.width, py = (y + box.top - old.top) / old.height;
    zoom = Math.min(4, Math.max(0.02, next));
    svg.setAttribute("width", Math.max(1, Math.round(width * zoom)));
    svg.setAttribute("height", Math.max(1, Math.round(height * zoom)));
    const now = svg.getBoundingClientRect();
    view.scrollBy(now.left + px * now.width - box.left - x, now.top + py * now.height - box.top - y);
  }
  const fits = {
    in: () => zoom * 1.25,
    out: () => zoom / 1.25,
    one: () => 1,
    width: () => (view.clientWidth - 2) / width,
    all: () => Math.min((view.clientWidth - 2) / width, (Math.min(900, innerHeight * 0.7) - 2) / height),
  };
  for (const button of $$("[data-zoom]")) button.addEventListener("click", () => setZoom(fits[button.dataset.zoom]()));
  setZoom(Math.min(1, Math.max(0.55, fits.width())), view.clientWidth / 2, 0);
  const first = $(".card", svg);
  if (first) {
    const place = first.getBoundingClientRect(), box = view.getBoundingClientRect();
    view.scrollLeft += place.left + place.width / 2 - box.left - box.width / 2;
  }
  view.scrollTop = 0;
  view.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = view.getBoundingClientRect();
      setZoom(zoom * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );
  let drag = null;
  view.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0)
      drag = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!drag) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (Math.abs(dx) + Math.abs(dy) > 4) {
      drag.moved = true;
      view.classList.add("drag");
    }
    if (drag.moved) view.scrollTo(drag.left - dx, drag.top - dy);
  });
  addEventListener("pointerup", () => {
    view.classList.remove("drag");
    // The click that ends a drag comes right after this.
    if (drag) setTimeout(() => (drag = null));
  });
  view.addEventListener("dragstart", (event) => event.preventDefault());
  view.addEventListener(
    "click",
    (event) => {
      if (drag && drag.moved) event.preventDefault();
    },
    true,
  );
  const wires = new Map();
  for (const path of $$(".wires path", svg))
    for (const end of [path.dataset.s, path.dataset.t]) wires.set(end, [...(wires.get(end) || []), path]);
  for (const card of $$(".card", svg)) {
    const near = wires.get(card.dataset.n) || [];
    card.addEventListener("pointerenter", () => near.forEach((path) => path.classList.add("near")));
    card.addEventListener("pointerleave", () => near.forEach((path) => path.classList.remove("near")));
  }
  $("#colour").addEventListener("change", (event) => (view.dataset.colour = event.target.value));
  let hits = [], at = -1;
  function show(card) {
    const box = view.getBoundingClientRect(), place = card.getBoundingClientRect();
    view.scrollBy(
      place.left + place.width / 2 - box.left - box.width / 2,
      place.top + place.height / 2 - box.top - box.height / 2,
    );
  }
  function step(by) {
    if (!hits.length) return;
    at = (at + by + hits.length) % hits.length;
    show(hits[at]);
    $("#found").textContent = `${at + 1} of ${hits.length}`;
  }
  $("#find").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    hits = [];
    at = -1;
    for (const card of $$(".card", svg)) {
      const hit = wanted !== "" && card.textContent.toLowerCase().includes(wanted);
      card.classList.toggle("hit", hit);
      if (hit) hits.push(card);
    }
    view.classList.toggle("finding", wanted !== "");
    $("#found").textContent = wanted && !hits.length ? "nothing found" : "";
    step(1);
  });
  $("#find").addEventListener("keydown", (event) => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
  });
}

/* folded lines of the passes */
for (const fold of $$("tr.fold"))
  $("button", fold).addEventListener("click", async () => {
    const all = await texts("texts-passes");
    const lines = all[fold.closest(".pass").dataset.after].split("\n");
    const [a, b, count] = [fold.dataset.a, fold.dataset.b, fold.dataset.n].map(Number);
    const rows = [];
    for (let k = 0; k < count; k++) {
      const row = document.createElement("tr");
      for (const [text, kind] of [[a + k, "n"], [lines[b + k - 1], ""], [b + k, "n"], [lines[b + k - 1], ""]]) {
        const cell = row.insertCell();
        cell.textContent = text;
        if (kind) cell.className = kind;
      }
      rows.push(row);
    }
    fold.replaceWith(...rows);
  });

/* the stages of a kernel, two side by side */
const WORDS =
  /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(# [^\n]*|; [^\n]*)|\b(def|for|in|with|return|lambda|if|else|and|or|not|None|True|False|block|range|parallel|unrolled|vectorized|compute|reduce|scan|select|define|declare|call|load|store|phi|br|ret|void|ptr|label|getelementptr|fadd|fmul|fsub|fdiv|add|mul|icmp|fcmp|bitcast)\b|(\b\d[\w.+]*)/g;
function highlighted(text) {
  const result = document.createDocumentFragment();
  if (text.length > 200000) {
    result.append(text);
    return result;
  }
  let last = 0;
  for (const match of text.matchAll(WORDS)) {
    result.append(text.slice(last, match.index));
    const span = document.createElement("span");
    span.className = match[1] ? "str" : match[2] ? "com" : match[3] ? "kw" : "num";
    span.textContent = match[0];
    result.append(span);
    last = match.index + match[0].length;
  }
  result.append(text.slice(last));
  return result;
}
async function fill(pane, id) {
  const all = await texts(id);
  const text = all[$("select", pane).value];
  $("pre", pane).replaceChildren(highlighted(text));
  $("small", pane).textContent = `${text.trimEnd().split("\n").length} lines`;
}
for (const details of $$("details.stages")) {
  const id = "texts-" + details.dataset.k;
  const panes = $$(".pane", details);
  const pairs = $$(".pairs button", details);
  const chosen = () => panes.map((pane) => $("select", pane).value);
  function mark() {
    const [left, right] = chosen();
    for (const pair of pairs) pair.ariaPressed = pair.dataset.left === left && pair.dataset.right === right;
  }
  for (const pane of panes)
    $("select", pane).addEventListener("change", () => {
      fill(pane, id);
      mark();
    });
  for (const pair of pairs)
    pair.addEventListener("click", () => {
      [pair.dataset.left, pair.dataset.right].forEach((stage, k) => {
        $("select", panes[k]).value = stage;
        fill(panes[k], id);
      });
      mark();
    });
  mark();
  details.addEventListener("toggle", () => {
    if (details.open && panes.length && !$("pre", panes[0]).firstChild) panes.forEach((pane) => fill(pane, id));
  });
}
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.matches(".kernel")) $("details.stages", target).open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
