// Small helpers to make elements and to write numbers.

/** Return a new element. Attributes that start with "on" are event listeners; undefined and false ones are left out. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

/** Return a new SVG element. */
export function makeSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;

export const points = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(100 * value).toFixed(1)}`;

/** Return seconds as 0:07 or 1:02:03, with tenths if the whole is short. */
export function clock(seconds, whole = Infinity) {
  if (whole < 20) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  const parts = [Math.floor(rounded / 60) % 60, rounded % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(rounded / 3600);
  return hours ? `${hours}:${parts.join(":")}` : `${Number(parts[0])}:${parts[1]}`;
}

export function bytes(count) {
  const [unit, name] = count >= 1e9 ? [1e9, "GB"] : count >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${(Math.max(count, 1000) / unit).toFixed(count < 10 * unit && unit > 1e3 ? 1 : 0)} ${name}`;
}
