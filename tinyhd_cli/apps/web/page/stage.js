// The view of one file: before a run the frame with its areas, after a run the overlay, curves, numbers and files.
import { areaLayer, areaNames } from "./areas.js";
import { timeChart } from "./chart.js";
import { bytes, clock, make, percent } from "./dom.js";
import { keepInStep } from "./players.js";

/** Return the elements of a file's view. context: {settings, onAreas, onCopyAreas}. */
export function showFile(item, context) {
  const parts = [make("div", { class: "row" }, make("h3", {}, item.name), make("span", { class: "soft" }, facts(item)))];
  if (item.error) parts.push(make("div", { class: "message" }, item.error));
  if (item.info) parts.push(...(item.result ? resultView(item, context) : [sourcePanel(item, context)]));
  return parts;
}

function facts({ info }) {
  if (!info) return "";
  const length = info.is_image ? "picture" : info.seconds ? clock(info.seconds, info.seconds) : "video";
  return `${info.width} × ${info.height} · ${length}`;
}

/** Return the source as an element: the file itself if the browser can show it, else the server's copy or poster. */
function sourceMedia(item) {
  const { info } = item;
  const poster = () => make("img", { src: info.poster, alt: item.name, draggable: "false" });
  if (info.is_image) return poster();
  if (!item.plays && !item.result?.source) return poster();
  return make("video", { src: item.result?.source || item.url, muted: true, playsinline: true, preload: "auto", poster: info.poster });
}

/** Return a box of the shape of a frame for an image or a video. */
export function screen(media, aspect) {
  return make("div", { class: "screen", "--aspect": aspect }, media);
}

/** Return the width of an overlay divided by its height. */
export const overlayAspect = (item) => item.info.aspect * (item.result.is_wide ? 2 : 1);

/** Return the source with the areas on it, and their names; it redraws itself. */
function areaEditor(item, media, context) {
  const names = make("div", { class: "chips-place" });
  const frame = screen(media, item.info.aspect);
  const draw = () => {
    frame.querySelector(".layer")?.remove();
    frame.append(areaLayer(item.areas, context.settings.area_colors, changed));
    names.replaceChildren(areaNames(item.areas, context.settings.area_colors, changed, copy));
  };
  const copy = context.onCopyAreas;
  const changed = (focused) => {
    draw();
    frame.querySelector(".layer").children[focused]?.focus();
    context.onAreas();
  };
  draw();
  return { frame, names };
}

function sourcePanel(item, context) {
  const media = sourceMedia(item);
  const { frame, names } = areaEditor(item, media, context);
  const scrub = media.tagName === "VIDEO" ? scrubber(media) : null;
  return make("div", { class: "panel" }, frame, scrub, names);
}

/** Return a slider that moves through a video, to find the frame on which an area is best drawn. */
function scrubber(video) {
  const slider = make("input", { type: "range", min: 0, max: 1, step: "any", value: 0, "aria-label": "Time of the frame" });
  slider.addEventListener("input", () => (video.currentTime = Number(slider.value)));
  video.addEventListener("loadedmetadata", () => (slider.max = Math.max(0.001, video.duration - 0.001)));
  return slider;
}

function resultView(item, context) {
  const { result } = item;
  const media = sourceMedia(item);
  const { frame, names } = areaEditor(item, media, context);
  const overlayFile = result.files.find((file) => file.kind === "overlay");
  const overlay = result.is_image
    ? make("img", { id: "overlay", src: overlayFile.url, alt: `Overlay of ${item.name}` })
    : make("video", { id: "overlay", src: overlayFile.url, controls: true, loop: true, playsinline: true, preload: "auto" });
  const chart = result.is_image ? null : curves(item, context, overlay);
  if (!result.is_image) {
    const seconds = clock(result.seconds, result.seconds);
    overlay.setAttribute("aria-label", `Overlay of ${item.name}, ${seconds}`);
    keepInStep(overlay, media.tagName === "VIDEO" ? media : null, (time) => chart.forEach((one) => one.moveTo(time)));
  }
  const caption = result.is_object ? "The most salient object" : "Where people look";
  const screens = make(
    "div",
    { class: "screens pair" },
    make("figure", {}, frame, make("figcaption", {}, "Source; drag on it to mark areas")),
    make("figure", {}, screen(overlay, overlayAspect(item)), make("figcaption", {}, `${caption}, by ${result.model}`)),
  );
  return [
    screens,
    names,
    result.damaged ? make("div", { class: "message" }, `Skipped ${result.damaged}.`) : null,
    chart ? make("div", { class: "panel" }, make("h2", {}, "Over time"), chart.map((one) => one.element)) : null,
    numbers(item, context),
    downloads(item, context),
  ];
}

/** Return the name and the meaning of the main curve. */
export function mainCurve(result) {
  return result.is_object
    ? ["Size of the object", "fraction of the frame"]
    : ["Spread of the attention", "low if everyone looks at the same place"];
}

function curves({ result }, { settings }, video) {
  const { time_s, main, areas } = result.curves;
  const seek = (seconds) => (video.currentTime = Math.min(seconds, Math.max(0, result.seconds - 0.001)));
  const [name, meaning] = mainCurve(result);
  const lines = Object.entries(areas).map(([area, values], index) => ({
    name: area, color: settings.area_colors[index % settings.area_colors.length], times: time_s, values,
  }));
  const subject = result.is_object ? "Object" : "Attention";
  return [
    lines.length ? timeChart(lines, result.seconds, seek, `${subject} on the areas over time`) : null,
    timeChart([{ name: `${name} (${meaning})`, color: "var(--accent)", times: time_s, values: main }], result.seconds, seek, `${name} over time`),
  ].filter(Boolean);
}

/** Return the mean of the main curve in words. */
export function focusText(result) {
  return result.is_object ? `${percent(result.mean.area)} of the frame` : result.focus;
}

function numbers({ result }, { settings }) {
  const rows = Object.entries(result.areas);
  const motion = !result.is_image;
  const cells = ([name, area], index) => [
    make("td", { "--color": settings.area_colors[index % settings.area_colors.length] }, make("i", { class: "dot" }), " ", name),
    make("td", { class: "big" }, percent(area.share)),
    make("td", {}, percent(area.size)),
    make("td", {}, area.size ? `${(area.share / area.size).toFixed(1)} ×` : ""),
    motion && make("td", {}, `${percent(area.most)} at ${clock(area.most_at_s, result.seconds)}`),
    motion && make("td", {}, area.first_s === null ? "never" : clock(area.first_s, result.seconds)),
    motion && make("td", {}, clock(area.time_s, result.seconds)),
  ];
  const subject = result.is_object ? "of the object" : "of attention";
  const heads = ["Area", subject, "of the frame", "attention / area", ...(motion ? ["highest", "first seen", "seen for"] : [])];
  if (result.is_object) heads[3] = "object / area";
  return make(
    "div",
    { class: "panel", id: "numbers" },
    make("h2", {}, "Numbers"),
    make("p", {}, result.is_object ? "The object covers " : "The attention is ", make("b", {}, focusText(result)), "."),
    rows.length
      ? make("div", { class: "scroll" }, make("table", {}, make("tr", {}, heads.map((head) => make("th", {}, head))), rows.map((row, index) => make("tr", {}, cells(row, index)))))
      : make("p", { class: "soft" }, "Mark areas on the source and run again to see how much each of them gets."),
  );
}

function downloads({ result, finished }, { settings }) {
  const until = new Date(finished + 1000 * settings.keep_s).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const link = (url, label, detail) => make("a", { class: "button", href: `${url}?download=true`, download: true }, label, make("small", {}, detail));
  return make(
    "div",
    { class: "panel", id: "downloads" },
    make("div", { class: "row" }, make("h2", {}, "Files"), make("small", {}, `kept until about ${until}`)),
    make(
      "div",
      { class: "files" },
      result.files.map((file) => link(file.url, file.label, `${file.name.split(".").pop()}, ${bytes(file.bytes)}`)),
      link(result.archive, "All files", "zip"),
    ),
  );
}
