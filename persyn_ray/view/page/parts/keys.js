// Single keys: the view that is shown says which; `?` lists them; none acts while one types.

import { go } from "./address.js";
import { h } from "./elements.js";

const EVERYWHERE = [
  { key: "?", does: "this help", act: () => showHelp() },
  { key: "1", does: "Now", act: () => go("/") },
  { key: "2", does: "Prompts", act: () => go("/prompts") },
  { key: "3", does: "Teachers", act: () => go("/teachers") },
  { key: "4", does: "Dead letters", act: () => go("/dead-letters") },
  { key: "5", does: "Report", act: () => go("/run-report") },
];
const SIGNS = { ArrowDown: "↓", ArrowUp: "↑", ArrowRight: "→", ArrowLeft: "←", Escape: "Esc" };
let ofView = [];

/** The keys of the view that is shown: [{ key, also, does, act }]. */
export function setKeys(keys) {
  ofView = keys;
}

function isTyping(target) {
  return target.closest?.("input, textarea, select, [contenteditable]") !== null;
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const found = [...ofView, ...EVERYWHERE].find((one) => one.key === event.key || one.also === event.key);
  if (!found || (event.key === "Enter" && event.target.closest("a, button, summary, [role=application]"))) return;
  event.preventDefault();
  found.act();
}

function showHelp() {
  const rows = [...ofView, ...EVERYWHERE].map(({ key, also, does }) => [
    h("dt", {}, h("kbd", {}, key), also && [" ", h("kbd", {}, SIGNS[also] ?? also)]),
    h("dd", {}, does),
  ]);
  document.getElementById("keys-list").replaceChildren(...rows.flat());
  document.getElementById("keys").showModal();
}

/** Listen to the keyboard, once for all views. */
export function connectKeys() {
  document.addEventListener("keydown", pressed);
  document.getElementById("help").addEventListener("click", showHelp);
}
