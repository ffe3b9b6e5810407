// Teachers by name: a colour each, the same as in the report, and a name short enough for a table.

import { h } from "./elements.js";
import { visible } from "./text.js";

// As TEACHER_COLOURS and OTHERS of report/drawing.py.
const COLOURS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#72b7b2", "#e45756", "#eeca3b", "#9d755d", "#ff9da6"];
const OTHERS = "#b8bfc6";
const colours = new Map();
let order = [];

/** Give each teacher its colour: by the pool, or by PerSyn's shares when there are more than colours. */
export function setTeachers(teachers) {
  order = teachers.map((one) => one.name);
  const many = teachers.length > COLOURS.length;
  const leading = many ? [...teachers].sort((a, b) => (b.share ?? 0) - (a.share ?? 0)) : teachers;
  leading.forEach(({ name }, i) => colours.set(name, COLOURS[i] ?? OTHERS));
}

/** The teacher's colour; grey for those beyond the palette and those unknown. */
export function colourOf(name) {
  return colours.get(name) ?? OTHERS;
}

/** Place of a teacher in the pool. */
export function placeOf(name) {
  const at = order.indexOf(name);
  return at < 0 ? order.length : at;
}

/** Cut in the middle: sizes and versions stand at the end and are kept. */
export function shortName(name, width = 28) {
  const text = visible(name);
  if (text.length <= width) return text;
  const tail = Math.floor((2 * width) / 3);
  return `${text.slice(0, width - tail - 1)}…${text.slice(-tail)}`;
}

/** A dot in the teacher's colour and its name; the full name on hovering. */
export function teacher(name, width = 28) {
  if (name === null || name === undefined) return h("span", { class: "unknown" }, "–");
  return h(
    "span",
    { class: "teacher", title: visible(name) },
    h("span", { class: "dot", style: { "background-color": colourOf(name) }, "aria-hidden": "true" }),
    h("span", { class: "teacher-name" }, shortName(name, width)),
  );
}
