// Quality against learnability: one point a response, in its teacher's colour; a point opens its prompt.

import { address, go } from "./address.js";
import { h, svg } from "./elements.js";
import { fixed, ticks } from "./numbers.js";
import { colourOf, shortName, teacher } from "./teacher_names.js";
import { oneLine, visible } from "./text.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [600, 390, 56, 14, 12, 54];
const FEW = 5; // qualities: so few that equal ones would hide each other
const APART = 0.36; // how far equal qualities are then spread, of the gap between two

/** A number in [-1, 1] that depends on the text alone, so that points stay where they are. */
function spreadOf(text) {
  let hash = 2166136261;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return ((hash >>> 0) / 0xffffffff) * 2 - 1;
}

function rangeOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0];
  const high = sorted[sorted.length - 1];
  const room = (high - low || 1) * 0.05;
  return [low - room, high + room];
}

function scales(points) {
  const levels = [...new Set(points.map((one) => one.quality))].sort((a, b) => a - b);
  const isJittered = levels.length <= FEW;
  const gap = Math.min(...levels.slice(1).map((level, i) => level - levels[i]), 1);
  const [x0, x1] = rangeOf(points.map((one) => one.learnability));
  let [y0, y1] = rangeOf(points.map((one) => one.quality));
  if (isJittered) [y0, y1] = [levels[0] - 1.2 * APART * gap, levels.at(-1) + 1.2 * APART * gap];
  const x = (value) => LEFT + ((value - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const apart = isJittered ? y(0) - y(APART * gap) : 0;
  return { x, y, apart, isJittered, ticksX: ticks(x0, x1, 6), ticksY: isJittered ? levels : ticks(y0, y1, 5) };
}

function axes({ x, y, ticksX, ticksY }) {
  return svg("g", { class: "axes", "aria-hidden": "true" },
    ticksX.map((value) => [
      svg("line", { x1: x(value), x2: x(value), y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { x: x(value), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }, String(value).replace("-", "−"))]),
    ticksY.map((value) => [
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(4))).replace("-", "−"))]),
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle", class: "axis" }, "learnability, nats per token → easier to learn"),
    svg("text", { transform: `translate(13 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, "quality"));
}

function circle(one, i, scale) {
  return svg("circle", {
    cx: scale.x(one.learnability).toFixed(1),
    cy: (scale.y(one.quality) + scale.apart * spreadOf(one.prompt_id + one.teacher)).toFixed(1),
    r: 3.6, fill: colourOf(one.teacher), data: { at: i, teacher: one.teacher },
  });
}

function words(one) {
  return `${shortName(one.teacher)}: learnability ${fixed(one.learnability)}, quality ${fixed(one.quality)}, prompt ${oneLine(one.prompt_id, 32)}`;
}

/** Arrow keys go from point to point along the learnability, Enter opens the prompt. */
function connect(plot, points, readout) {
  let at = -1;
  const order = points.map((_, i) => i).sort((a, b) => points[a].learnability - points[b].learnability);
  const seen = () => order.filter((i) => !plot.querySelector(`[data-at="${i}"]`).classList.contains("off"));
  const mark = (i) => {
    plot.querySelector(".at")?.classList.remove("at");
    at = i;
    if (i < 0) return;
    plot.querySelector(`[data-at="${i}"]`).classList.add("at");
    readout.textContent = words(points[i]);
  };
  const open = (i) => i >= 0 && go(address("/prompt", { id: points[i].prompt_id }));
  const pointed = (event) => Number(event.target.closest?.("[data-at]")?.dataset.at ?? -1);
  plot.addEventListener("pointerover", (event) => pointed(event) >= 0 && mark(pointed(event)));
  plot.addEventListener("click", (event) => open(pointed(event)));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (event.key === "Enter") open(at);
    else if (step) {
      const all = seen();
      mark(all[Math.min(all.length - 1, Math.max(0, all.indexOf(at) + step))] ?? -1);
    } else return;
    event.preventDefault();
  });
}

function toggles(plot, teachers) {
  const toggle = (event, name) => {
    const off = event.currentTarget.getAttribute("aria-pressed") === "true";
    event.currentTarget.setAttribute("aria-pressed", String(!off));
    for (const one of plot.querySelectorAll("circle")) if (one.dataset.teacher === name) one.classList.toggle("off", off);
  };
  return h("div", { class: "chips", role: "group", "aria-label": "Teachers in the plot" }, teachers.map(({ name }) =>
    h("button", { type: "button", class: "chip", "aria-pressed": "true", onclick: (event) => toggle(event, name) }, teacher(name, 20))));
}

/** A card with the plot of [{ prompt_id, teacher, quality, learnability }]. */
export function scatter(points, teachers) {
  const known = points.filter((one) => Number.isFinite(one.quality) && Number.isFinite(one.learnability)
    && one.quality !== null && one.learnability !== null);
  const title = h("h2", {}, "Quality against learnability");
  if (!known.length) return h("section", { class: "card" }, title, h("p", { class: "lead empty" }, "No response has both yet."));
  const scale = scales(known);
  const readout = h("p", { class: "readout", "aria-live": "polite" }, "A point is a response: choose one to open its prompt.");
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "scatter", tabindex: "0", role: "application",
    "aria-label": `Quality against learnability of ${known.length} responses. Arrow keys go through them, Enter opens the prompt.` },
  axes(scale), svg("g", {}, known.map((one, i) => circle(one, i, scale))));
  connect(plot, known, readout);
  const named = teachers.filter(({ name }) => known.some((one) => one.teacher === name));
  return h("section", { class: "card" }, title, toggles(plot, named), plot, readout,
    h("p", { class: "caption" }, `${visible(known.length)} responses, a sample by seed when there are more.`,
      scale.isJittered && " Equal qualities are spread in height so that points can be told apart."));
}
