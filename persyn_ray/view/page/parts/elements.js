// Builds elements from plain values. Text becomes text nodes: nothing here ever parses HTML.

import { visible } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") {
    for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
  } else if (name === "data") Object.assign(element.dataset, value);
  else element.setAttribute(name, value === true ? "" : String(value));
}

function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}

/** An element with attributes, listeners (`onclick`), `style` and `data` objects, and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  return fill(element, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  return fill(element, children);
}

/** Grey lines in place of what is being loaded. */
export function skeleton(lines) {
  const bars = Array.from({ length: lines }, (_, i) =>
    h("div", { class: "bone", style: { "--width": `${[92, 78, 86, 64, 81, 71][i % 6]}%` } }),
  );
  return h("div", { class: "skeleton", role: "status", "aria-label": "Loading" }, bars);
}

/** What went wrong, in words, with a way to try again. */
export function failure(error, retry = null) {
  return h(
    "div",
    { class: "note wrong", role: "alert" },
    h("p", {}, error?.message || "Something went wrong."),
    retry && h("button", { type: "button", onclick: retry }, "Try again"),
  );
}

/** A bar of a share between 0 and 1, with an accessible text beside it given by the caller. */
export function bar(share, colour = null, extra = "") {
  const width = `${Math.min(100, Math.max(0, 100 * (share ?? 0)))}%`;
  const style = colour ? { width, "background-color": colour } : { width };
  return h("span", { class: `track ${extra}`, "aria-hidden": "true" }, h("span", { class: "fill", style }));
}

/** A short label; `kind` chooses its colour: up, down, warm, accent, or none. */
export function badge(text, kind = "", title = null) {
  return h("span", { class: `badge ${kind}`, title }, text);
}

/** A named figure with a line of explanation below it. */
export function tile(name, value, note = null, ...more) {
  return h(
    "div",
    { class: "card tile" },
    h("div", { class: "name" }, name),
    h("div", { class: "value" }, value),
    more,
    note && h("div", { class: "note-line" }, note),
  );
}

/** Say something to screen readers alone. */
export function announce(text) {
  document.getElementById("announce").textContent = visible(text);
}
