// The page: its list of files, its settings, and its jobs.
import * as api from "./api.js";
import { showComparison } from "./compare.js";
import { make, percent } from "./dom.js";
import { showFile } from "./stage.js";

const find = (selector) => document.querySelector(selector);
const form = find("#look");
const settings = await api.loadSettings();
const items = [];
let chosen = null;
let pair = null;
let running = false;

/** Show what belongs to the kind of the model, and to the number of files. */
function drawBody() {
  const kind = isObject() ? "for-object" : "for-fixation";
  document.body.className = items.length ? `${kind} ${items.length > 1 ? "many" : ""}` : "empty";
}

const isObject = () => settings.models.find((model) => model.value === form.model.value)?.is_object ?? false;
const finished = () => items.filter((item) => item.result);
const isOpen = (item) => item.info && ["ready", "changed", "canceled", "failed"].includes(item.state);

// ---- Files

function addFiles(files) {
  for (const file of files) {
    const item = { file, name: file.name || "pasted.png", areas: [], state: "uploading", fraction: 0, url: URL.createObjectURL(file) };
    items.push(item);
    chosen ??= item;
    if (file.size > settings.max_bytes) fail(item, `${item.name} is larger than ${settings.max_size}, the limit; choose a smaller file.`);
    else send(item);
  }
  pair = null;
  draw();
}

async function send(item) {
  const { done, stop } = api.upload(item.file, (fraction) => {
    item.fraction = fraction;
    drawProgress(item);
  });
  item.stop = stop;
  try {
    item.info = await done;
    item.plays = item.info.is_image || (await canPlay(item.url));
    if (item.state === "uploading") item.state = "ready";
  } catch (error) {
    if (items.includes(item)) fail(item, error.message);
  }
  draw();
}

/** Return whether the browser can play a video. */
function canPlay(url) {
  return new Promise((resolve) => {
    const video = make("video", { src: url, muted: true, preload: "auto" });
    video.onloadeddata = () => resolve(video.videoWidth > 0);
    video.onerror = () => resolve(false);
    setTimeout(resolve, 5000, false);
  });
}

function fail(item, message) {
  item.state = "failed";
  item.error = message;
}

function removeFiles(item) {
  if (item.info) api.removeUpload(item.info.id);
  if (item.result) api.removeResult(item.result.archive);
}

function remove(item) {
  item.stop?.();
  if (item.key) api.cancel(item.key);
  removeFiles(item);
  URL.revokeObjectURL(item.url);
  items.splice(items.indexOf(item), 1);
  if (chosen === item) chosen = items[0] ?? null;
  pair = null;
  draw();
}

// ---- Jobs: one of this page is in the queue at a time, so that visitors take turns

function request(item) {
  const object = isObject();
  return {
    model: form.model.value,
    colormap: form.colormap.value,
    alpha: Number(form.alpha.value),
    threshold: Number(form.threshold.value),
    normalize: object ? null : form.normalize.value || null,
    side_by_side: form.side_by_side.checked,
    cutout: object && form.cutout.checked,
    copy_source: !item.plays,
    areas: item.areas.map(({ name, box }) => ({ name, box })),
  };
}

async function runAll() {
  for (const item of items.filter(isOpen)) Object.assign(item, { state: "waiting", ahead: null, error: "" });
  scrollTo({ top: 0, behavior: "smooth" }); // on a phone, the progress is far above the button
  draw();
  if (running) return;
  running = true;
  for (let item; (item = items.find(({ state }) => state === "waiting")); ) await runOne(item);
  running = false;
  draw();
}

async function runOne(item) {
  const old = item.result;
  item.key = crypto.getRandomValues(new Uint32Array(4)).join("");
  Object.assign(item, { state: "running", fraction: null, ahead: 0 });
  draw();
  try {
    const result = await api.run(item.key, item.info.id, request(item), (message) => {
      if (message.waiting !== undefined) item.ahead = message.waiting;
      if (message.total) item.fraction = message.done / message.total;
      drawProgress(item);
    });
    if (!items.includes(item)) result.archive && api.removeResult(result.archive); // removed in the meantime
    else if (result.canceled) item.state = "canceled";
    else {
      Object.assign(item, { state: item.state === "stale" ? "changed" : "done", result, finished: Date.now() });
      if (old) api.removeResult(old.archive);
    }
  } catch (error) {
    fail(item, error.message);
  }
  item.key = null;
  draw();
}

function stop(item) {
  if (item.key) api.cancel(item.key);
  item.state = item.key ? "stopping" : "canceled";
  draw();
}

addEventListener("pagehide", ({ persisted }) => {
  for (const item of items) {
    if (item.key) api.cancelAtExit(item.key);
    if (!persisted) removeFiles(item); // they cannot be reached any more
  }
});

/** Note that settings or areas have changed since the last run. */
function changed(ones) {
  for (const item of ones) {
    if (item.state === "done") item.state = "changed";
    if (item.state === "running") item.state = "stale";
  }
  drawList();
}

// ---- View

function stateText(item) {
  if (item.state === "running" || item.state === "stale") {
    if (item.ahead) return item.ahead === 1 ? "Next in the queue" : `${item.ahead} in the queue`;
    return item.fraction === null ? "Loading the model" : `Predicting, ${percent(item.fraction, 0)}`;
  }
  return {
    uploading: `Adding, ${percent(item.fraction, 0)}`, ready: "Ready", waiting: "Waiting", stopping: "Canceling", done: "Done",
    canceled: "Canceled", changed: "Changed; run again", failed: item.error,
  }[item.state];
}

function drawList() {
  const rows = items.map((item) => {
    const busy = ["uploading", "waiting", "running", "stale", "stopping"].includes(item.state);
    const stops = ["waiting", "running", "stale"].includes(item.state);
    const act = stops
      ? make("button", { class: "act", onclick: () => stop(item) }, "Cancel")
      : make("button", { class: "act round", title: "Remove", "aria-label": `Remove ${item.name}`, onclick: () => remove(item) }, "×");
    return make(
      "li",
      { class: `${item.state} ${item === chosen && !pair ? "chosen" : ""}` },
      make("button", { class: "pick", "aria-label": item.name, "aria-current": item === chosen ? "true" : undefined, onclick: () => choose(item) }),
      item.info ? make("img", { class: "thumb", src: item.info.poster, alt: "" }) : make("span", { class: "thumb" }),
      make(
        "span",
        {},
        make("span", { class: "name", title: item.name }, item.name),
        make("span", { class: "state" }, stateText(item)),
        busy && make("progress", item.fraction === null || item.state === "waiting" ? {} : { value: item.fraction }),
      ),
      act,
    );
  });
  find("#list").replaceChildren(...rows);
  const open = items.filter(isOpen);
  const again = open.length && open.every((item) => item.state === "changed");
  const many = open.length > 1 ? ` in ${open.length} files` : "";
  find("#run").disabled = !open.length;
  find("#run").textContent = again ? "Run again" : isObject() ? `Find the object${many}` : `Show where people look${many}`;
  find("#compare").hidden = finished().length < 2 && !pair;
  find("#compare").textContent = pair ? "Back to one file" : "Compare two";
}

/** Update the progress of a file in place: a button that is replaced while it is pressed gets no click. */
function drawProgress(item) {
  const row = find("#list").children[items.indexOf(item)];
  if (!row) return;
  row.querySelector(".state").textContent = stateText(item);
  const bar = row.querySelector("progress");
  if (bar && item.fraction !== null) bar.value = item.fraction;
}

/** Draw all. The view of the chosen file is drawn only if something in it has changed, because its video may play. */
let shown = "";
function draw() {
  drawBody();
  drawList();
  const state = JSON.stringify([items.indexOf(chosen), chosen?.error, chosen?.info?.id, chosen?.plays, chosen?.result?.archive, pair?.map((item) => item.result.archive)]);
  if (state === shown) return;
  shown = state;
  if (pair) find("#stage").replaceChildren(...showComparison(finished(), pair, pick));
  else if (chosen) find("#stage").replaceChildren(...showFile(chosen, stageContext(chosen)).filter(Boolean));
  else find("#stage").replaceChildren();
}

function stageContext(item) {
  return {
    settings,
    onAreas: () => changed([item]),
    onCopyAreas: () => {
      const others = items.filter((other) => other !== item);
      for (const other of others) other.areas = structuredClone(item.areas);
      changed(others);
    },
  };
}

function choose(item) {
  chosen = item;
  pair = null;
  draw();
}

function pick(index, item) {
  pair[index] = item;
  draw();
}

// ---- Settings

function drawSettings() {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    slider.parentElement.querySelector(".value").textContent = percent(Number(slider.value), 0);
  }
  const stops = settings.colormaps.find(({ name }) => name === form.colormap.value).colors;
  find("#gradient").style.setProperty("--colors", `linear-gradient(to right, ${stops.join(", ")})`);
}

/** Set the sliders to the defaults of the kind of model. */
function useDefaults() {
  const { alpha, threshold } = settings.defaults[isObject() ? "object" : "fixation"];
  form.alpha.value = alpha;
  form.threshold.value = threshold;
  drawSettings();
}

const notes = ({ is_object }, index) => [index ? "" : "default", is_object ? "objects" : ""].filter(Boolean).join(", ");
form.model.append(
  ...settings.models.map((model, index) => make("option", { value: model.value }, model.name, notes(model, index) && ` (${notes(model, index)})`)),
);
form.colormap.append(...settings.colormaps.map(({ name }) => make("option", {}, name)));
form.model.addEventListener("change", useDefaults);
form.addEventListener("input", () => {
  drawSettings();
  changed(items);
  drawBody();
});
form.addEventListener("submit", (event) => event.preventDefault());
useDefaults();

// ---- Ways in

const input = find("#files");
for (const selector of ["#drop", "#add"]) find(selector).addEventListener("click", () => input.click());
input.addEventListener("change", () => {
  addFiles([...input.files]);
  input.value = "";
});
addEventListener("paste", (event) => event.clipboardData.files.length && addFiles([...event.clipboardData.files]));
let depth = 0;
addEventListener("dragenter", () => (find("#veil").hidden = !++depth));
addEventListener("dragleave", () => (find("#veil").hidden = !--depth));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  find("#veil").hidden = true;
  addFiles([...event.dataTransfer.files]);
});
find("#run").addEventListener("click", runAll);
find("#compare").addEventListener("click", () => {
  pair = pair ? null : [chosen?.result ? chosen : finished()[0], finished().find((item) => item !== chosen)];
  draw();
});
find("#limits").textContent = `Up to ${settings.max_size} and ${settings.max_time} each`;
find("#privacy").textContent = settings.is_local ? "Everything stays on this machine" : `Files are removed ${settings.keep_s / 60} minutes after their last use`;
draw();
