// What pages do in the browser beside htmx: listen for changes, draw curves, copy, upload with progress, local times.
"use strict";

const body = document.body;

// ---- changes: one tab holds a stream, or asks every second where none gets through, and tells the others

const POLL_EVERY_MS = 1500;
const tabs = new BroadcastChannel("fedn-live");
let seen = Number(body.dataset.changes);

function hear(news) {
  document.getElementById("lost").hidden = !news.lost;
  if (news.lost || news.changes === seen) return;
  seen = news.changes;
  body.dispatchEvent(new CustomEvent("fedn-change"));
}

function tell(news) {
  tabs.postMessage(news);
  hear(news);
}

async function poll() {
  try {
    const answer = await fetch(`${body.dataset.live}/poll?after=${seen}`, { cache: "no-store" });
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok) throw new Error(answer.statusText);
    tell(await answer.json());
  } catch { tell({ lost: true }); }
  setTimeout(poll, POLL_EVERY_MS);
}

let leads = false;

function listen() {
  leads = true;
  if (!window.EventSource) { poll(); return; }
  let failed = 0;
  const stream = new EventSource(body.dataset.live);
  stream.addEventListener("change", (event) => { failed = 0; tell(JSON.parse(event.data)); });
  stream.addEventListener("error", () => {
    failed += 1;
    // Once: the reducer starts again, and the browser comes back by itself. Thrice: streams do not get through here.
    if (failed > 2 || stream.readyState === EventSource.CLOSED) { stream.close(); poll(); }
  });
}

if (body.dataset.live) {
  tabs.addEventListener("message", (event) => {
    if (!event.data.asks) hear(event.data);
    else if (leads) tabs.postMessage({ changes: seen });
  });
  // What was told between the making of this page and now, it has not heard.
  tabs.postMessage({ asks: true });
  // A browser opens six connections to a host: were each tab to hold one for its stream, the seventh would hang.
  // The lock is held until its tab is closed; then the next one gets it.
  if (navigator.locks) navigator.locks.request("fedn-live", () => new Promise(listen));
  else listen();
}

// ---- curves

const COLOURS = ["--curve-1", "--curve-2", "--curve-3", "--curve-4", "--curve-5", "--curve-6"];
const drawn = new WeakMap();
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A curve is a mean, an edge of a band between two of them, or a client's own; no two of one kind differ by colour alone.
const DASHES = [[], [8, 3], [2, 3], [8, 3, 2, 3], [12, 4], [4, 4]];

function curves(told) {
  let clients = 0;
  return told.series.map((one, place) => {
    if (one.kind === "edge") return { label: one.name, stroke: colour("--curve-1"), width: 0.5, points: { show: false } };
    const nth = one.kind === "client" ? 2 + clients++ : place;
    return {
      label: one.name, stroke: colour(COLOURS[nth % COLOURS.length]), width: one.kind === "client" ? 1.25 : 2.25,
      points: { show: told.x.length < 60 }, dash: one.dashed ? [6, 4] : DASHES[nth % DASHES.length],
    };
  });
}

// Of one value alone there is no range; a little room is left around it.
function around(plot, low, high) {
  if (low === null || high === null) return [0, 1];
  const room = low === high ? Math.abs(low) / 10 || 1 : (high - low) / 10;
  return [low - room, high + room];
}

function draw(place) {
  const before = drawn.get(place);
  if (before && before.told === place.dataset.chart && before.width === place.clientWidth && before.dark === dark.matches) return;
  if (before) before.plot.destroy();
  const told = JSON.parse(place.dataset.chart);
  const line = { stroke: colour("--ink"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const plot = new uPlot({
    width: Math.max(place.clientWidth, 240), height: 240,
    scales: { x: { time: false }, y: { range: around } },
    axes: [{ ...line, label: told.x_label, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] }, { ...line, size: 60 }],
    series: [{ label: told.x_label }, ...curves(told)],
    bands: (told.bands || []).map(([upper, lower]) => ({ series: [upper + 1, lower + 1], fill: `${colour("--curve-1")}26` })),
  }, [told.x, ...told.series.map((one) => one.values)], place);
  drawn.set(place, { plot, told: place.dataset.chart, width: place.clientWidth, dark: dark.matches });
}

function drawAll() {
  document.querySelectorAll("[data-chart]").forEach(draw);
}

// ---- local times, copying

function localTimes() {
  document.querySelectorAll("time[datetime]:not([title])").forEach((time) => {
    time.title = time.textContent;
    time.textContent = new Date(time.dateTime).toLocaleString();
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-save]");
  if (!button) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([button.parentElement.querySelector("code").textContent], { type: "text/plain" }));
  link.download = button.dataset.save;
  link.click();
  URL.revokeObjectURL(link.href);
});

// ---- uploads: one file, sent as it is, with its progress; <form data-upload="/api/v1/packages" data-then="/...?d={digest}">

function upload(form, file) {
  const bar = form.querySelector("progress");
  const said = form.querySelector("[data-said]");
  const request = new XMLHttpRequest();
  const say = (text, bad) => { said.textContent = text; said.className = bad ? "notice bad" : "notice"; said.hidden = !text; };
  bar.hidden = false;
  say("", false);
  request.upload.addEventListener("progress", (event) => { bar.max = event.total; bar.value = event.loaded; });
  request.addEventListener("error", () => { bar.hidden = true; say("The upload broke off. Try again.", true); });
  request.addEventListener("load", () => {
    bar.hidden = true;
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
    if (request.status >= 300) {
      say(`${answer.code ? `${answer.code}: ` : ""}${answer.detail || "The reducer refused it"}. ${answer.remedy || ""}`, true);
      return;
    }
    say("", false);
    if (form.dataset.then) location.href = form.dataset.then.replace("{digest}", answer.digest);
    else body.dispatchEvent(new CustomEvent("fedn-change"));
  });
  request.open("POST", form.dataset.upload);
  request.setRequestHeader("X-CSRFToken", body.dataset.csrf);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(file);
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-upload]");
  if (!form) return;
  event.preventDefault();
  const file = form.querySelector("input[type=file]").files[0];
  if (file) upload(form, file);
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-upload]");
  if (form && event.target.type === "file" && event.target.files[0]) upload(form, event.target.files[0]);
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const form = event.target.closest && event.target.closest("form[data-upload]");
    if (!form) return;
    event.preventDefault();
    form.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) upload(form, event.dataTransfer.files[0]);
  });
}

// ---- verifying: how far the reducer has read an object, one line of JSON after the other; <form data-verify="/api/v1/...">

async function verify(form) {
  const bar = form.querySelector("progress");
  const button = form.querySelector("button");
  const said = form.querySelector("[data-said]");
  const say = (text, bad) => { said.textContent = text; said.className = `notice ${bad ? "bad" : "good"}`; said.hidden = false; };
  button.disabled = true;
  bar.hidden = false;
  bar.removeAttribute("value");
  said.hidden = true;
  try {
    const answer = await fetch(form.dataset.verify, { method: "POST", headers: { "X-CSRFToken": body.dataset.csrf } });
    if (!answer.ok) { const problem = await answer.json(); say(`${problem.detail}. ${problem.remedy}`, true); return; }
    let step = null;
    for await (step of lines(answer.body)) { bar.max = step.size || 1; bar.value = step.done; }
    if (step && step.outcome === "whole") say(`Whole: all ${step.size.toLocaleString()} bytes are what the digest says.`, false);
    else say(step ? `${step.outcome}: ${step.fault}` : "The reducer gave no answer.", true);
  } catch { say("The connection broke off. Try again.", true); } finally { bar.hidden = true; button.disabled = false; }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-verify]");
  if (!form) return;
  event.preventDefault();
  verify(form);
});

// ---- choosing: a list that shows at once what was chosen in it

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-at-once]")) event.target.form.requestSubmit();
});

// ---- time that passes between two changes: how long something lasts, and how long it may

const AGES_EVERY_MS = 30000;

function lasting(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

function tick() {
  const now = Date.now() / 1000;
  document.querySelectorAll("[data-since]").forEach((one) => { one.textContent = lasting(now - one.dataset.since); });
  document.querySelectorAll("[data-until]").forEach((one) => { one.textContent = lasting(one.dataset.until - now); });
}

setInterval(tick, 1000);
// What a page says in words, such as "4 minutes ago", grows old without any change.
if (body.dataset.live) setInterval(() => body.dispatchEvent(new CustomEvent("fedn-change")), AGES_EVERY_MS);

// ---- a form's part that one choice has no use for is not checked by the browser and not sent

function useMasked() {
  document.querySelectorAll("fieldset.masked").forEach((part) => {
    part.disabled = part.form.elements.masking.value === "none";
  });
}

document.addEventListener("change", useMasked);

// ---- a field is marked where it is said what is wrong with it

function markWrong() {
  document.querySelectorAll("[data-why]").forEach((why) => {
    const field = document.getElementById(why.dataset.why);
    if (!field) return;
    const wrong = why.classList.contains("wrong-why");
    if (wrong) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    field.closest(".field, fieldset").classList.toggle("wrong", wrong);
  });
}

// ---- a drawing that is wider than the screen is folded away, once: the tables say the same

const narrow = matchMedia("(max-width: 40rem)");
const folded = new WeakSet();

function foldDrawings() {
  document.querySelectorAll("details.drawing").forEach((drawing) => {
    if (folded.has(drawing)) return;
    folded.add(drawing);
    drawing.open = !narrow.matches;
  });
}

// ---- now, after every change of the page, and when its width changes

function settle() {
  drawAll();
  localTimes();
  tick();
  useMasked();
  markWrong();
  foldDrawings();
}

document.addEventListener("htmx:after:swap", settle);
window.addEventListener("resize", drawAll);
dark.addEventListener("change", drawAll);
settle();
