// The teachers of one prompt in a table: router, reward and its two parts, and which methods chose whom.

import { badge, bar, h } from "../parts/elements.js";
import { count, fixed, percent, UNKNOWN } from "../parts/numbers.js";
import { colourOf, placeOf, teacher } from "../parts/teacher_names.js";

/** Responses with the assigned teacher first, then by the router, then by reward, then by the pool. */
export function inOrder(responses) {
  const rank = (one) => [one.is_assigned ? 0 : 1, -(one.probability ?? -1), -(one.reward ?? -1e9), placeOf(one.teacher)];
  return [...responses].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    const at = left.findIndex((value, i) => value !== right[i]);
    return at < 0 ? 0 : left[at] - right[at];
  });
}

/** Whether there is anything to show of a teacher: for most prompts only the assigned one is asked. */
export function isAnswered(one) {
  return Boolean(one.text || one.thinking || one.error || one.finish_reason);
}

const VERDICTS = { correct: ["✓", "higher"], wrong: ["✗", "lower"], no_answer: ["✗", "lower"] };

/** Quality as one reads it: a sign and the verdict where a check decided, else the number. */
export function qualityOf(one) {
  const words = one.quality_outcome ? String(one.quality_outcome).replaceAll("_", " ") : null;
  const verdict = VERDICTS[one.quality_outcome];
  if (verdict) {
    return h("span", { class: verdict[1], title: `Quality ${fixed(one.quality, 3)}` },
      h("span", { "aria-hidden": "true" }, `${verdict[0]} `), words);
  }
  if (one.quality === null || one.quality === undefined) return h("span", { class: "unknown" }, words ?? UNKNOWN);
  return h("span", { title: words }, fixed(one.quality, 3));
}

/** Tokens of a response; a recorded one is not counted before it is scored. */
export function tokensOf(one) {
  return one.num_tokens === 0 && one.text ? UNKNOWN : count(one.num_tokens);
}

function chosenBy(prompt, name) {
  const methods = Object.entries(prompt.methods ?? {}).filter(([, chosen]) => chosen === name);
  return methods.map(([method]) => badge(method.replaceAll("_", " "), method === "persyn" ? "accent" : ""));
}

function probability(one) {
  if (one.probability === null || one.probability === undefined) {
    return h("td", { "data-name": "Router", class: "router" }, one.logit === null ? UNKNOWN : `logit ${fixed(one.logit)}`);
  }
  return h("td", { "data-name": "Router", class: "router" },
    bar(one.probability, colourOf(one.teacher)), h("span", { class: "number" }, percent(one.probability)));
}

function isHighest(responses, name, one) {
  const values = responses.map((each) => each[name]).filter((value) => value !== null && value !== undefined);
  return values.length > 1 && one[name] === Math.max(...values) && one[name] !== Math.min(...values);
}

function named(one, i) {
  const name = teacher(one.teacher, 30);
  return [
    isAnswered(one) ? h("a", { href: `#response-${i}`, onclick: (event) => show(event, i) }, name) : name,
    one.is_candidate === false && h("small", {}, " cannot be chosen"),
  ];
}

function row(prompt, responses, one, i) {
  const best = (name) => (isHighest(responses, name, one) ? "best" : "");
  return h("tr", { class: one.is_assigned ? "assigned" : "" },
    h("th", { scope: "row" }, named(one, i)),
    probability(one),
    h("td", { "data-name": "Reward", class: best("reward") }, fixed(one.reward, 3)),
    h("td", { "data-name": "Quality" }, qualityOf(one)),
    h("td", { "data-name": "Learnability", class: best("learnability") }, fixed(one.learnability, 3)),
    h("td", { "data-name": "Tokens" }, tokensOf(one)),
    h("td", { class: "chosen" }, chosenBy(prompt, one.teacher)));
}

function show(event, i) {
  event.preventDefault();
  const card = document.getElementById(`response-${i}`);
  card.scrollIntoView({ block: "start" });
  card.focus({ preventScroll: true });
}

/** The table over the responses in their order. */
export function choiceTable(prompt, responses) {
  if (!responses.length) return "";
  const names = ["Teacher", "Router", "Reward", "Quality", "Learnability", "Tokens", "Chosen by"];
  return h("section", { class: "card scroll choice", "aria-label": "Teachers compared" },
    h("table", { class: "stacked" },
      h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", title: TITLES[name] }, name)))),
      h("tbody", {}, responses.map((one, i) => row(prompt, responses, one, i)))));
}

const TITLES = {
  Router: "Probability that the router gives each teacher",
  Reward: "Quality and learnability, scaled and weighted by alpha",
  Learnability: "Mean log-likelihood under the student, nats per token; higher is easier to learn",
};
