// The responses of one prompt side by side, each with its figures, its thinking folded, and what stands out marked.

import { badge, h } from "../parts/elements.js";
import { MarkedText } from "../parts/marks.js";
import { markdown } from "../parts/markdown.js";
import { count, fixed } from "../parts/numbers.js";
import { colourOf, teacher } from "../parts/teacher_names.js";
import { place, visible } from "../parts/text.js";
import { isAnswered, qualityOf, tokensOf } from "./choice.js";

const LONGEST_FORMATTED = 120_000; // characters; longer texts are shown as they were written

function loopMarks(text, start) {
  if (!isLooping(start)) return [];
  return [{ start: place(text, start), end: text.length, name: "loop", title: "From here on the text repeats itself" }];
}

function lowestMarks(text, span, window) {
  if (!span) return [];
  const [start, end] = span.map((at) => place(text, at));
  const title = `Least likely stretch under the student${window === null ? "" : `: ${fixed(window)} nats per token`}`;
  return [{ start, end, name: "lowest", title }];
}

function marksOf(text, loopStart, span, window) {
  return [...loopMarks(text, loopStart), ...lowestMarks(text, span, window)];
}

function body(text, marks, asSource) {
  const marked = new MarkedText(text, marks);
  if (asSource || text.length > LONGEST_FORMATTED) {
    return marked.write(h("div", { class: "text source" }), 0, text.length);
  }
  return markdown(marked, h("div", { class: "text" }));
}

const isLooping = (start) => start !== null && start !== undefined;

function thinking(one, asSource) {
  if (!one.thinking) return null;
  const details = h("details", { class: "thinking" },
    h("summary", {}, "Thinking", h("span", { class: "muted" }, ` ${count(one.thinking.length)} characters`,
      isLooping(one.thinking_loop_start) && ", repeats itself")));
  // Written when it is opened: thinking is often the longest text of a page.
  const marks = marksOf(one.thinking, one.thinking_loop_start, one.thinking_lowest_span, one.lowest_window);
  details.addEventListener("toggle", () => details.append(body(one.thinking, marks, asSource)), { once: true });
  return details;
}

function badges(one, article) {
  return [
    one.is_assigned && badge("assigned", "accent", "PerSyn's assignment gives the prompt to this teacher"),
    one.is_best && badge("best reward", "up"),
    one.is_cut && badge("cut", "warm", `Ended by ${one.finish_reason ?? "the limit of tokens"}, not by the teacher`),
    one.error && badge("failed", "down"),
    (one.lowest_span || one.thinking_lowest_span) && jump(article, "lowest", `least likely ${one.lowest_window === null ? "stretch" : fixed(one.lowest_window)}`,
      "Show the stretch that is least likely under the student"),
    isLooping(one.loop_start) && jump(article, "loop", "loop", "Show where it begins to repeat itself"),
  ];
}

function jump(article, name, text, title) {
  const mark = () => article.querySelector(`mark.${name}`);
  const show = () => mark()?.scrollIntoView({ block: "center", inline: "nearest" });
  const act = () => {
    unfold(article);
    const within = mark() ? mark().closest("details") : article.querySelector("details.thinking");
    if (!within || within.open) return show();
    within.addEventListener("toggle", show, { once: true }); // after its text is written
    within.open = true;
    return undefined;
  };
  return h("button", { type: "button", class: `jump ${name}`, title, onclick: act }, text);
}

function parts(one) {
  const all = one.quality_parts ?? [];
  if (all.length < 2) return null; // the only one is the quality itself
  return h("details", { class: "parts" }, h("summary", {}, "Parts of quality"),
    h("dl", {}, all.map(({ name, value }) => [h("dt", {}, name),
      h("dd", {}, typeof value === "number" ? fixed(value, 3) : visible(value ?? "–"))])));
}

function figures(one) {
  const all = [
    ["Reward", fixed(one.reward, 3)], ["Quality", qualityOf(one)],
    ["Learnability", fixed(one.learnability, 3)], ["Tokens", tokensOf(one)],
  ];
  return h("dl", { class: "figure-list" }, all.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function unfold(article, open = true) {
  article.classList.toggle("open", open);
  const button = article.querySelector(".fold");
  if (button) button.textContent = open ? "Show less" : "Show all";
  button?.setAttribute("aria-expanded", String(open));
}

function card(one, i, asSource) {
  const article = h("article", { class: "card response", id: `response-${i}`, tabindex: "-1",
    "aria-label": `Response of ${one.teacher}`, style: { "--teacher": colourOf(one.teacher) } });
  const text = one.text ?? "";
  const fold = h("button", { type: "button", class: "fold", "aria-expanded": "false", hidden: true,
    onclick: () => unfold(article, !article.classList.contains("open")) }, "Show all");
  article.append(
    h("header", {}, h("h2", {}, teacher(one.teacher, 40)), h("span", { class: "badges" }, badges(one, article))),
    figures(one),
    ...[parts(one), one.error && h("p", { class: "note wrong" }, one.error), thinking(one, asSource)].filter(Boolean),
    h("div", { class: "body" }, text ? body(text, marksOf(text, one.loop_start, one.lowest_span, one.lowest_window), asSource)
      : h("p", { class: "lead empty" }, one.error ? "No text." : "An empty response.")),
    fold,
  );
  return article;
}

/** Show the button of each response whose text is higher than its card. */
function measure(cards) {
  for (const article of cards) {
    const inner = article.querySelector(".body");
    article.querySelector(".fold").hidden = inner.scrollHeight <= inner.clientHeight + 4;
    article.classList.toggle("folded", inner.scrollHeight > inner.clientHeight + 4);
  }
}

/** All responses in the order given, with what opens them and what changes the form of texts. */
export function responseCards(responses, split, asSource, toggleText) {
  const rewards = new Set(responses.map((one) => one.reward).filter((value) => typeof value === "number"));
  const told = rewards.size > 1 ? responses : responses.map((one) => ({ ...one, is_best: false })); // among equals none is best
  const cards = told.flatMap((one, i) => (isAnswered(one) ? [card(one, i, asSource)] : []));
  if (!cards.length) {
    return h("p", { class: "lead empty" }, split === "heldout" ? "No teacher is asked." : "No teacher has answered this prompt yet.");
  }
  const absent = responses.filter((one) => !isAnswered(one)).map((one) => one.teacher);
  const foldAll = () => {
    const open = cards.some((one) => one.classList.contains("folded") && !one.classList.contains("open"));
    for (const one of cards) unfold(one, open);
  };
  requestAnimationFrame(() => requestAnimationFrame(() => measure(cards)));
  return h("section", { "aria-label": "Responses" },
    h("div", { class: "title-line responses-title" }, h("h2", {}, "Responses"),
      h("button", { type: "button", class: "quiet fold-all", "aria-keyshortcuts": "e", onclick: foldAll }, "Open all"),
      h("button", { type: "button", class: "quiet", "aria-pressed": String(asSource), "aria-keyshortcuts": "s", onclick: toggleText }, "As written")),
    h("div", { class: "responses" }, cards),
    absent.length > 0 && h("p", { class: "caption" }, `Not asked, or not yet: ${absent.join(", ")}.`));
}
