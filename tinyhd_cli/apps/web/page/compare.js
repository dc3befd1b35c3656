// Two results beside each other: their overlays in step, one curve for both, and the differences of their numbers.
import { timeChart } from "./chart.js";
import { clock, make, percent, points } from "./dom.js";
import { keepInStep } from "./players.js";
import { focusText, mainCurve, overlayAspect, screen } from "./stage.js";

const COLORS = ["var(--accent)", "var(--second)"];

/** Return the elements of the comparison. pair: the two files; onPick(index, item) chooses others. */
export function showComparison(items, pair, onPick) {
  const [first, second] = pair.map((item) => item.result);
  const overlays = pair.map(({ name, result }) => overlayOf(name, result));
  const pick = (index) =>
    make(
      "select",
      { "aria-label": `File ${index + 1}`, onchange: (event) => onPick(index, items[event.target.value]) },
      items.map((item, number) => make("option", { value: number, selected: item === pair[index] }, item.name)),
    );
  const parts = [
    make(
      "div",
      { class: "screens pair" },
      overlays.map((overlay, index) =>
        make("figure", {}, screen(overlay, overlayAspect(pair[index])), make("figcaption", { "--color": COLORS[index] }, make("i", { class: "dot" }), " ", pick(index))),
      ),
    ),
  ];
  if (!first.is_image && !second.is_image) parts.push(curvePanel(pair, overlays));
  parts.push(table(pair));
  return parts;
}

function overlayOf(name, result) {
  const { url } = result.files.find((file) => file.kind === "overlay");
  return result.is_image
    ? make("img", { src: url, alt: `Overlay of ${name}` })
    : make("video", { src: url, controls: true, playsinline: true, preload: "auto" });
}

function curvePanel(pair, [leader, follower]) {
  const end = Math.max(...pair.map(({ result }) => result.seconds));
  const shared = Object.keys(pair[0].result.areas).filter((name) => name in pair[1].result.areas);
  const place = make("div", {});
  let chart;
  const draw = (area) => {
    const lines = pair.map(({ name, result }, index) => ({
      name, color: COLORS[index], times: result.curves.time_s, values: area ? result.curves.areas[area] : result.curves.main,
    }));
    chart = timeChart(lines, end, (seconds) => (leader.currentTime = seconds), "Both over time");
    chart.moveTo(leader.currentTime);
    place.replaceChildren(chart.element);
  };
  draw(shared[0]);
  keepInStep(leader, follower, (time) => chart.moveTo(time));
  const options = [...shared.map((name) => [name, `On ${name}`]), ["", mainCurve(pair[0].result)[0]]];
  const select = make(
    "select",
    { "aria-label": "What the curves show", onchange: (event) => draw(event.target.value) },
    options.map(([value, label]) => make("option", { value }, label)),
  );
  return make("div", { class: "panel" }, make("div", { class: "row" }, make("h2", {}, "Over time"), select), place);
}

function table(pair) {
  const [first, second] = pair.map(({ result }) => result);
  const names = [...new Set([...Object.keys(first.areas), ...Object.keys(second.areas)])];
  const share = (result, name) => result.areas[name]?.share;
  const seen = (result, name) => {
    const area = result.areas[name];
    if (!area || result.is_image) return "";
    return area.first_s === null ? ", never seen" : `, first at ${clock(area.first_s, result.seconds)}`;
  };
  const cell = (result, name) => (share(result, name) === undefined ? "–" : `${percent(share(result, name))}${seen(result, name)}`);
  const rows = names.map((name) => {
    const [a, b] = [share(first, name), share(second, name)];
    const difference = a === undefined || b === undefined ? "–" : `${points(b - a)} points`;
    return make("tr", {}, [name, cell(first, name), cell(second, name), difference].map((text) => make("td", {}, text)));
  });
  const focus = make("tr", {}, ["Overall", focusText(first), focusText(second), ""].map((text) => make("td", {}, text)));
  const head = make(
    "tr",
    {},
    make("th", {}, "Attention on"),
    pair.map(({ name }, index) => make("th", { "--color": COLORS[index] }, make("i", { class: "dot" }), " ", name)),
    make("th", {}, "difference"),
  );
  return make("div", { class: "panel", id: "comparison" }, make("h2", {}, "Numbers"), make("div", { class: "scroll" }, make("table", {}, head, rows, focus)));
}
