// Areas of interest, drawn with the mouse, a finger or the keyboard. Boxes are in percent of the frame.
import { make } from "./dom.js";

/** Minimum width and height of an area, in percent of the frame. */
const SMALLEST = 1;
const limit = (value, low, high) => Math.min(Math.max(value, low), high);
const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);

/** Return a free name, such as "Area 2" for the second area. */
function freeName(areas) {
  let number = areas.length + 1;
  while (areas.some((area) => area.name === `Area ${number}`)) number += 1;
  return `Area ${number}`;
}

/** Return a layer for a frame on which areas are drawn; onChange is called after each change, with the index of the area that keeps the focus, if any. */
export function areaLayer(areas, colors, onChange) {
  const layer = make("div", { class: "layer", "aria-label": "Drag to mark an area" });

  const position = (event) => {
    const frame = layer.getBoundingClientRect();
    const at = (value, start, length) => limit((100 * (value - start)) / length, 0, 100);
    return [at(event.clientX, frame.left, frame.width), at(event.clientY, frame.top, frame.height)];
  };

  /** Follow the pointer: call move(x, y, dx, dy), in percent of the frame, for each step, and done() at the end. */
  function follow(event, move, done) {
    event.preventDefault();
    event.stopPropagation();
    const start = position(event);
    const onMove = (next) => {
      const [x, y] = position(next);
      move(x, y, x - start[0], y - start[1]);
      draw();
    };
    const onUp = () => {
      layer.removeEventListener("pointermove", onMove);
      layer.removeEventListener("pointerup", onUp);
      layer.removeEventListener("pointercancel", onUp);
      done();
    };
    layer.setPointerCapture(event.pointerId);
    layer.addEventListener("pointermove", onMove);
    layer.addEventListener("pointerup", onUp);
    layer.addEventListener("pointercancel", onUp);
  }

  layer.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const [startX, startY] = position(event);
    const area = { name: freeName(areas), box: [startX, startY, 0, 0] };
    areas.push(area);
    follow(
      event,
      (x, y) => (area.box = [Math.min(x, startX), Math.min(y, startY), Math.abs(x - startX), Math.abs(y - startY)]),
      () => {
        area.box = rounded(area.box);
        if (area.box[2] >= SMALLEST && area.box[3] >= SMALLEST) return onChange();
        areas.splice(areas.indexOf(area), 1);
        draw();
      },
    );
  });

  const moved = ([x, y, width, height], dx, dy) => [limit(x + dx, 0, 100 - width), limit(y + dy, 0, 100 - height), width, height];
  const resized = ([x, y, width, height], dx, dy) => [x, y, limit(width + dx, SMALLEST, 100 - x), limit(height + dy, SMALLEST, 100 - y)];

  function onKey(event, area) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) area.box = rounded((event.shiftKey ? resized : moved)(area.box, ...step));
    else if (event.key === "Delete" || event.key === "Backspace") areas.splice(areas.indexOf(area), 1);
    else return;
    event.preventDefault();
    onChange(areas.indexOf(area));
  }

  function draw() {
    layer.replaceChildren(
      ...areas.map((area, index) => {
        const [x, y, width, height] = area.box;
        const change = (way) => (event) => {
          if (event.button) return;
          const before = area.box;
          follow(event, (_x, _y, dx, dy) => (area.box = rounded(way(before, dx, dy))), () => area.box !== before && onChange());
        };
        return make(
          "div",
          {
            class: y < 6 ? "area high" : "area",
            style: `left:${x}%; top:${y}%; width:${width}%; height:${height}%`,
            "--color": colors[index % colors.length],
            tabindex: 0,
            "aria-label": `${area.name}: arrow keys move it, with Shift they resize it, Delete removes it`,
            onpointerdown: change(moved),
            onkeydown: (event) => onKey(event, area),
          },
          make("span", {}, area.name),
          make("i", { onpointerdown: change(resized) }),
        );
      }),
    );
  }

  draw();
  return layer;
}

/** Return the row under the frame: the names of the areas, and what can be done with them. */
export function areaNames(areas, colors, onChange, onCopy) {
  const add = () => {
    areas.push({ name: freeName(areas), box: [35, 35, 30, 30] });
    onChange(areas.length - 1);
  };
  const chips = areas.map((area, index) =>
    make(
      "span",
      { class: "chip", "--color": colors[index % colors.length] },
      make("i", { class: "dot" }),
      make("input", {
        value: area.name,
        maxlength: 40,
        "aria-label": `Name of ${area.name}`,
        onchange: (event) => {
          const wanted = event.target.value.trim();
          if (wanted && !areas.some((other) => other !== area && other.name === wanted)) area.name = wanted;
          onChange();
        },
      }),
      make(
        "button",
        {
          class: "round",
          title: `Remove ${area.name}`,
          "aria-label": `Remove ${area.name}`,
          onclick: () => {
            areas.splice(areas.indexOf(area), 1);
            onChange();
          },
        },
        "×",
      ),
    ),
  );
  const hint = areas.length ? null : make("span", { class: "soft" }, "Drag on the picture to mark an area, such as a logo or a face.");
  const copy = areas.length ? make("button", { class: "quiet for-many", onclick: onCopy }, "Use for all files") : null;
  return make("div", { class: "chips" }, hint, chips, make("button", { class: "quiet", onclick: add }, "Add an area"), copy);
}
