// Filters of prompts: what the address holds of them, and the words for each.

import { address } from "./address.js";

export const FLAGS = {
  unsure: { label: "unsure router", kind: "warm", title: "The router's two best teachers are nearly level" },
  novel: { label: "unlike parallel set", kind: "accent", title: "Unlike every prompt of the parallel set" },
  all_wrong: { label: "all wrong", kind: "down", title: "No teacher's response is right" },
  disagree: { label: "signals disagree", kind: "", title: "Quality and learnability prefer different teachers" },
  cut: { label: "cut", kind: "warm", title: "A response ended at the limit of tokens" },
};
export const SORTS = {
  prompt: "Prompt",
  margin: "Margin",
  best_reward: "Best reward",
  spread: "Spread",
  novelty: "Novelty",
  length: "Length",
};
export const PAGE_ROWS = 50;
const NAMES = ["search", "task", "teacher", "split", "flag", "sort"];

/** The parameters that say which prompts, in which order: all but the page and what else is shown. */
export function filterOf(params) {
  return new URLSearchParams([...params].filter(([name, value]) => NAMES.includes(name) && value));
}

/** The address of one prompt within a filter; `offset` is where its page of the list begins. */
export function promptAddress(id, params) {
  const made = filterOf(params);
  if (params.get("offset")) made.set("offset", params.get("offset"));
  if (params.get("text")) made.set("text", params.get("text"));
  return address("/prompt", new URLSearchParams([["id", id], ...made]));
}

/** What the server is asked for a page of the list. */
export function listQuery(params) {
  const query = filterOf(params);
  query.set("offset", offsetOf(params));
  query.set("limit", PAGE_ROWS);
  return query;
}

/** Number of rows before the page; anything else than a whole number counts as none. */
export function offsetOf(params) {
  const offset = Number(params.get("offset"));
  return Number.isInteger(offset) && offset > 0 ? offset : 0;
}

/** A filter in words, for titles and links. */
export function filterWords(params) {
  const words = [
    params.get("search") && `“${params.get("search")}”`,
    params.get("task") && `task ${params.get("task")}`,
    params.get("teacher") && `to ${params.get("teacher")}`,
    params.get("split"),
    ...params.getAll("flag").map((flag) => FLAGS[flag]?.label ?? flag),
  ];
  return words.filter(Boolean).join(", ");
}
