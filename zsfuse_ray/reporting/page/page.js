"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// ---- the arrays of all segments: numbers in base64, little-endian --------------------------------------------
function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}
const start = unpacked(data.start, Float32Array), end = unpacked(data.end, Float32Array);
const label = unpacked(data.label, Uint8Array), confidence = unpacked(data.confidence, Uint8Array);
const posterior = unpacked(data.posterior, Uint8Array), width = data.posteriors;
let first = 0;
for (const one of data.recordings) {
  one.first = first;
  first += one.segments;
  one.lower = one.name.toLowerCase();
  one.labelName = one.label === null ? "" : data.labels[one.label];
}
const colour = (n) => `var(--c${n % 10})`;

// ---- small helpers: elements are made here, so that no text of a file is ever read as HTML -----------------------
function make(kind, options = {}, ...children) {
  const one = kind.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", kind.slice(4))
    : document.createElement(kind);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") one.textContent = value;
    else if (name === "style") one.style.cssText = value;
    else if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) one.setAttribute(name, value === true ? "" : value);
  }
  one.append(...children);
  return one;
}
function clock(seconds) {
  if (seconds === null) return "";
  const whole = Math.floor(seconds), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
const percent = (share) => share === null ? "" : `${Math.round(100 * share)} %`;
const named = (n) => make("span", {}, make("span", { class: "swatch", style: `background:${colour(n)}`, "aria-hidden": "true" }), data.labels[n]);

// ---- player ------------------------------------------------------------------------------------------------------
const player = byId("player"), audio = player.querySelector("audio");
let stopAt = null;
function play(what, from, to, link, clip) {
  player.hidden = false;
  byId("playing").textContent = `${what} ${clock(from)}–${clock(to)}`;
  if (!clip && !link) {
    byId("playing").textContent += ": a browser cannot open this address; copy it to a player";
    audio.removeAttribute("src");
    return;
  }
  stopAt = clip ? null : to;
  audio.src = clip || `${link}#t=${from.toFixed(2)},${to.toFixed(2)}`;
  audio.play().catch((error) => { byId("playing").textContent = `${what}: cannot be played here (${error.message})`; });
}
audio.addEventListener("timeupdate", () => { if (stopAt !== null && audio.currentTime >= stopAt) { audio.pause(); stopAt = null; } });

// ---- recordings ----------------------------------------------------------------------------------------------------
const PAGE = 100;
let shown = PAGE, order = { key: "name", down: false };
function matching() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = data.recordings.filter((one) => words.every((word) => one.lower.includes(word) || one.labelName === word));
  const { key, down } = order;
  rows.sort((a, b) => {
    const [x, y] = [a[key], b[key]];
    const by = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : (x ?? -1) - (y ?? -1);
    return down ? -by : by;
  });
  return rows;
}
function strip(one) {
  const bands = one.arc.map((n) => make("i", n === null ? {} : { style: `background:${colour(n)}` }));
  const told = one.arc.map((n) => n === null ? "–" : data.labels[n]).join(", ");
  return make("span", { class: "strip", role: "img", "aria-label": told, title: told }, ...bands);
}
function list() {
  const rows = matching();
  byId("found").textContent = `${rows.length.toLocaleString("en")} of ${data.recordings.length.toLocaleString("en")}`;
  byId("more").hidden = rows.length <= shown;
  byId("table").tBodies[0].replaceChildren(...rows.slice(0, shown).map((one) => make("tr", {},
    make("td", {}, make("button", { type: "button", class: "name", text: one.name, onclick: () => open(one) })),
    make("td", { class: "n", text: clock(one.duration) }), make("td", { class: "n hide", text: clock(one.speech) }),
    make("td", { class: "n hide", text: one.segments }), make("td", {}, one.label === null ? "" : named(one.label)),
    make("td", { class: "n", text: percent(one.confidence) }), make("td", { class: "hide" }, strip(one)))));
}
byId("search").addEventListener("input", () => { shown = PAGE; list(); });
byId("more").addEventListener("click", () => { shown += 10 * PAGE; list(); });
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    order = { key: button.dataset.key, down: order.key === button.dataset.key && !order.down };
    for (const other of document.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    button.closest("th").setAttribute("aria-sort", order.down ? "descending" : "ascending");
    list();
  });
}

// ---- one recording: its arc and segments ----------------------------------------------------------------------------
const SMOOTH_S = 20; // width of the Gaussian, in seconds
function shares(one, smooth) {
  const rows = [];
  for (let i = one.first; i < one.first + one.segments; i++) rows.push(Array.from(posterior.subarray(i * width, (i + 1) * width), (p) => p / 255));
  if (!smooth) return rows;
  const middle = rows.map((_, n) => (start[one.first + n] + end[one.first + n]) / 2);
  return rows.map((_, n) => {
    const sum = new Array(width).fill(0);
    let total = 0;
    for (const step of [1, -1]) {
      for (let k = step > 0 ? n : n - 1; k >= 0 && k < rows.length; k += step) {
        const far = (middle[k] - middle[n]) / SMOOTH_S;
        if (Math.abs(far) > 3) break;
        const weight = Math.exp(-far * far / 2) * (end[one.first + k] - start[one.first + k]);
        total += weight;
        for (let c = 0; c < width; c++) sum[c] += weight * rows[k][c];
      }
    }
    return sum.map((value) => value / (total || 1));
  });
}
function arc(one, smooth) {
  const rows = shares(one, smooth), long = Math.max(one.duration || 0, one.segments ? end[one.first + one.segments - 1] : 0, 0.01);
  const bars = [];
  rows.forEach((row, n) => {
    const i = one.first + n, x = 1000 * start[i] / long, w = Math.max(1000 * (end[i] - start[i]) / long, 0.5);
    let y = 0;
    row.forEach((share, c) => {
      bars.push(make("svg:rect", { x, y: 100 * y, width: w, height: 100 * share, fill: colour(c) }));
      y += share;
    });
    const told = `${clock(start[i])}–${clock(end[i])} ${data.labels[label[i]]} ${percent(confidence[i] / 255)}`;
    bars.push(make("svg:rect", { class: "hit", x, y: 0, width: w, height: 100, onclick: () => play(one.name, start[i], end[i], one.link) },
      make("svg:title", { text: told })));
  });
  return make("svg:svg", { class: "arc", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img",
    "aria-label": `Probabilities of the labels over time; ${one.segments} segments, listed below` }, ...bars);
}
function open(one) {
  const place = byId("recording"), figure = make("div");
  const draw = (smooth, button) => {
    figure.replaceChildren(arc(one, smooth));
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  };
  const buttons = [make("button", { type: "button", text: "Each segment" }), make("button", { type: "button", text: "Smoothed" })];
  buttons.forEach((button, n) => button.addEventListener("click", () => draw(n === 1, button)));
  const rows = [];
  for (let i = one.first; i < one.first + one.segments; i++) {
    rows.push(make("tr", {}, make("td", {}, make("button", { type: "button", text: `▶ ${clock(start[i])}–${clock(end[i])}`,
      onclick: () => play(one.name, start[i], end[i], one.link) })), make("td", {}, named(label[i])),
    make("td", { class: "n", text: percent(confidence[i] / 255) }), make("td", { class: "soft", text: data.said[i] ?? "" })));
  }
  const legend = make("div", { class: "legend" }, ...data.labels.slice(0, width).map((_, n) => named(n)));
  const where = one.link ? make("a", { href: one.link, text: one.uri }) : make("span", { text: one.uri });
  place.replaceChildren(make("h3", { class: "wrap", text: one.name }), make("p", { class: "soft wrap" }, where), make("p", {}, ...buttons),
    legend, figure, make("div", { class: "axis" }, make("span", { text: "0:00" }), make("span", { text: clock(one.duration) })),
    make("div", { class: "segments" }, make("table", {}, make("tbody", {}, ...rows))));
  place.hidden = false;
  draw(false, buttons[0]);
  place.focus({ preventScroll: true });
  place.scrollIntoView({ block: "start" });
}

// ---- segments to check --------------------------------------------------------------------------------------------
const KEPT = `zsfuse-checks-${data.digest}`;
const picks = new Map(Object.entries(JSON.parse(recall() || "{}")).map(([n, name]) => [Number(n), name]));
let queue = [], at = 0;
function recall() { try { return localStorage.getItem(KEPT); } catch (error) { return forgetful(error); } }
function remember() { try { localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(picks))); } catch (error) { forgetful(error); } }
function forgetful(error) {
  byId("estimate").title = `this browser keeps nothing for this page (${error.name}): download before you close it`;
  return null;
}
function pick(name) {
  if (picks.get(queue[at]) === name) picks.delete(queue[at]); else picks.set(queue[at], name);
  remember();
  if (picks.has(queue[at])) go(1); else card();
  estimate();
}
function go(step) {
  at = Math.min(Math.max(at + step, 0), queue.length - 1);
  card();
}
function hear() {
  const one = data.check[queue[at]];
  if (one) play(one.name, one.start, one.end, one.link, one.clip);
}
function card() {
  const place = byId("card"), n = queue[at], one = data.check[n];
  if (!one) { place.replaceChildren("There is no such segment."); return; }
  const choices = [...data.labels.map((name) => [name, name]), ["cannot tell", ""]].map(([told, name], key) => make("button", {
    type: "button", "aria-pressed": String(picks.get(n) === name), onclick: () => pick(name) },
  told, key < 9 ? make("kbd", { text: key + 1, style: "margin-left:.5em" }) : ""));
  const models = Object.entries(one.models).map(([kind, shares]) => make("dd", { text: Object.entries(shares).filter(([, p]) => p !== null)
    .sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, p]) => `${name} ${percent(p)}`).join(", ") }, "")).flatMap((value, n) =>
    [make("dt", { text: Object.keys(one.models)[n] }), value]);
  place.replaceChildren(make("h3", { class: "wrap", text: `${at + 1} of ${queue.length}: ${one.name}, ${clock(one.start)}–${clock(one.end)}` }),
    make("p", {}, make("button", { type: "button", text: "▶ Play", onclick: hear }), " ", make("button", { type: "button", text: "←", "aria-label": "previous", onclick: () => go(-1) }),
      " ", make("button", { type: "button", text: "→", "aria-label": "next", onclick: () => go(1) })),
    make("p", { class: "wrap", text: one.said }),
    make("div", { class: "choices", role: "group", "aria-label": "What you hear" }, ...choices),
    make("details", {}, make("summary", { text: "What the models say" }), make("dl", {}, make("dt", { text: "label" }),
      make("dd", { text: `${one.label} ${percent(one.confidence)}` }), ...models)));
}
byId("card").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key), onButton = event.target.closest("button, summary");
  if (event.key === " " && !onButton) hear();
  else if (event.key === "ArrowRight") go(1);
  else if (event.key === "ArrowLeft") go(-1);
  else if (number >= 1 && number <= Math.min(9, data.labels.length + 1)) pick(data.labels[number - 1] ?? "");
  else return;
  event.preventDefault();
  if (event.key !== " ") byId("card").focus();
});
byId("why").addEventListener("change", choose);
function choose() {
  const why = byId("why").value;
  queue = data.check.flatMap((one, n) => one.why === why ? [n] : []);
  at = 0;
  card();
}
// Wilson's interval (1927) of a share, 95 %.
function wilson(right, n) {
  const z = 1.959964, p = right / n, middle = (p + z * z / (2 * n)) / (1 + z * z / n);
  const half = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
function estimate() {
  const judged = [...picks].filter(([n, name]) => name && data.check[n]?.why === "random");
  const right = judged.filter(([n, name]) => data.check[n].label === name).length;
  let text = `${picks.size} checked.`;
  if (judged.length) {
    const [low, high] = wilson(right, judged.length);
    text += ` Random sample: ${right} of ${judged.length} right, accuracy ${percent(right / judged.length)} (95 % interval ${percent(low)} to ${percent(high)}).`;
  }
  byId("estimate").textContent = text;
}
function corrections() {
  const cell = (value) => /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const rows = [...picks].filter(([n, name]) => name && data.check[n]).sort((a, b) => a[0] - b[0]).map(([n, name]) => {
    const one = data.check[n];
    return [one.uri, one.start, one.end, name, one.label, one.confidence, one.why].map(cell).join(",");
  });
  return ["uri,start_s,end_s,emotion,predicted,predicted_confidence,chosen_by", ...rows].join("\n") + "\n";
}
byId("download").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([corrections()], { type: "text/csv" }));
  make("a", { href: address, download: "corrections.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
});

// ---- theme ---------------------------------------------------------------------------------------------------------
byId("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

if (data.recordings.length) list();
choose();
estimate();
