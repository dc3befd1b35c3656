// A curve over time with a playhead; a click or a drag moves the video there.
import { clock, make, makeSvg, percent } from "./dom.js";

const HEIGHT = 180;
const EDGE = { left: 46, right: 10, top: 10, bottom: 24 };

/** Seconds between two labels of the time. */
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

/** Return a round number at least as large as a value. */
function roundUp(value) {
  const scale = 10 ** Math.floor(Math.log10(value || 0.01));
  return scale * [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * scale >= value * 0.999);
}

/**
 * Return {element, moveTo}.
 * lines: [{name, color, times, values}]; end: seconds; onSeek: called with seconds.
 */
export function timeChart(lines, end, onSeek, title) {
  const svg = makeSvg("svg", { class: "chart", role: "slider", tabindex: 0, "aria-label": title, "aria-valuemin": 0, "aria-valuemax": end.toFixed(1) });
  const read = lines.map(() => make("b", {}));
  const legend = make(
    "div",
    { class: "legend" },
    lines.map((line, index) => make("span", { "--color": line.color }, make("i", { class: "dot" }), line.name, " ", read[index])),
  );
  const top = roundUp(Math.max(0.001, ...lines.map((line) => line.values.reduce((most, value) => Math.max(most, value), 0))));
  const playhead = makeSvg("line", { class: "playhead", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
  let width = 600;
  let now = 0;
  const xOf = (seconds) => EDGE.left + ((width - EDGE.left - EDGE.right) * seconds) / end;
  const yOf = (value) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * value) / top;

  function draw() {
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(makeSvg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: yOf(value), y2: yOf(value) }));
      parts.push(makeSvg("text", { x: EDGE.left - 8, y: yOf(value) + 4, "text-anchor": "end" }, percent(value, top < 0.05 ? 1 : 0)));
    }
    const step = STEPS_S.find((seconds) => end / seconds <= width / 80) ?? end;
    for (let seconds = 0; seconds < end * 1.001; seconds += step) {
      const anchor = xOf(seconds) > width - 30 ? "end" : seconds ? "middle" : "start";
      parts.push(makeSvg("text", { x: xOf(seconds), y: HEIGHT - 6, "text-anchor": anchor }, clock(seconds, end)));
    }
    for (const line of lines) {
      const path = line.values.map((value, index) => `${index ? "L" : "M"}${xOf(line.times[index]).toFixed(1)} ${yOf(value).toFixed(1)}`);
      parts.push(makeSvg("path", { class: "curve", d: path.join(""), stroke: line.color }));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren(...parts, playhead);
    moveTo(now);
  }

  function moveTo(seconds) {
    now = seconds;
    const x = xOf(Math.min(Math.max(seconds, 0), end)).toFixed(2);
    playhead.setAttribute("x1", x);
    playhead.setAttribute("x2", x);
    svg.setAttribute("aria-valuenow", seconds.toFixed(2));
    lines.forEach((line, index) => {
      let at = line.times.findIndex((time) => time > seconds + 1e-6);
      at = (at < 0 ? line.times.length : Math.max(at, 1)) - 1;
      read[index].textContent = percent(line.values[at] ?? 0);
    });
  }

  const seek = (event) => {
    const frame = svg.getBoundingClientRect();
    const x = ((event.clientX - frame.left) * width) / frame.width;
    onSeek(Math.min(Math.max(((x - EDGE.left) / (width - EDGE.left - EDGE.right)) * end, 0), end));
  };
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    seek(event);
  });
  svg.addEventListener("pointermove", (event) => event.buttons && seek(event));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -end / 50, ArrowRight: end / 50 }[event.key];
    if (!step) return;
    event.preventDefault();
    onSeek(Math.min(Math.max(now + step, 0), end));
  });
  new ResizeObserver(([entry]) => {
    width = Math.max(240, Math.round(entry.contentRect.width));
    draw();
  }).observe(svg);
  draw();
  return { element: make("div", {}, legend, svg), moveTo };
}
