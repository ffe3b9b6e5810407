// One prompt: what was asked, who was chosen and why, and every teacher's response side by side.

import { get } from "../parts/api.js";
import { address, currentAddress, go, withChanges } from "../parts/address.js";
import { badge, failure, h, skeleton } from "../parts/elements.js";
import { filterOf, filterWords, promptAddress } from "../parts/filters.js";
import { setKeys } from "../parts/keys.js";
import { MarkedText } from "../parts/marks.js";
import { markdown } from "../parts/markdown.js";
import { fixed } from "../parts/numbers.js";
import { teacher } from "../parts/teacher_names.js";
import { oneLine } from "../parts/text.js";
import { choiceTable, inOrder } from "./choice.js";
import { responseCards } from "./responses.js";

function around(prompt, params) {
  const words = filterWords(params);
  const list = withChanges(filterOf(params), { offset: params.get("offset") });
  const step = (name, id, key) => id
    ? h("a", { class: "button", href: promptAddress(id, params), "aria-keyshortcuts": key }, name)
    : h("span", { class: "button off", "aria-disabled": "true" }, name);
  return h("nav", { class: "around", "aria-label": "Prompts of the filter" },
    h("a", { href: address("/prompts", list), "aria-keyshortcuts": "u" }, "← Prompts", words && `: ${oneLine(words, 60)}`),
    h("span", { class: "steps" }, step("← Previous", prompt.previous_id, "p"), step("Next →", prompt.next_id, "n")));
}

function written(text, asSource) {
  const marked = new MarkedText(String(text ?? ""));
  const body = h("div", { class: asSource ? "text source" : "text" });
  return asSource ? marked.write(body, 0, marked.source.length) : markdown(marked, body);
}

function conversation(prompt, asSource) {
  const messages = prompt.messages ?? [];
  const only = messages.length === 1 && messages[0].role === "user";
  return h("section", { class: "card asked", "aria-label": "Prompt" },
    messages.map(({ role, content }) => h("div", { class: `message ${only ? "only" : ""}` },
      only ? null : h("div", { class: "role" }, role), written(content, asSource))),
    prompt.reference !== null && prompt.reference !== undefined && h("details", { class: "reference", open: String(prompt.reference).length < 200 },
      h("summary", {}, "Reference"), written(prompt.reference, asSource)));
}

function facts(prompt) {
  const known = [
    ["task", prompt.task], ["split", prompt.split], ["source", prompt.source], ["id", prompt.prompt_id],
    ["margin", prompt.margin === null ? null : fixed(prompt.margin, 3)],
    ["novelty", prompt.novelty === null ? null : fixed(prompt.novelty, 3)],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("p", { class: "facts prompt-facts" },
    known.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, oneLine(value, 48)))),
    prompt.is_novel && badge("unlike parallel set", "accent"));
}

/** Which router the probabilities come from, and why it is that one. */
function decidedBy(prompt, router) {
  const isAsked = (prompt.responses ?? []).some((one) => one.logit !== null);
  if (!router || !isAsked) return null;
  return h("p", { class: "muted decided-by" }, "Router: ", h("b", {}, router.label),
    router.why ? `. router.kind: auto has chosen it: ${router.why}.` : ".");
}

function reasons(prompt, router) {
  const methods = Object.entries(prompt.methods ?? {}).filter(([, name]) => name !== null);
  return h("section", { class: "card why", "aria-labelledby": "why-title" },
    h("h2", { id: "why-title" }, "Why this teacher"),
    h("p", {}, prompt.why || "No router has chosen for this prompt yet."),
    decidedBy(prompt, router),
    methods.length > 0 && h("dl", { class: "methods" }, methods.map(([method, name]) => [
      h("dt", {}, method.replaceAll("_", " ")), h("dd", {}, teacher(name, 26))])));
}

function toggleText() {
  const { params } = currentAddress();
  go(address("/prompt", withChanges(params, { text: params.get("text") === "source" ? null : "source" })), true);
}

function keysOf(body) {
  const press = (key) => body.querySelector(`a[aria-keyshortcuts="${key}"]`)?.click();
  return [
    { key: "n", also: "ArrowRight", does: "next prompt of the filter", act: () => press("n") },
    { key: "p", also: "ArrowLeft", does: "prompt before", act: () => press("p") },
    { key: "u", also: "Escape", does: "back to the list", act: () => press("u") },
    { key: "e", does: "open or fold all responses", act: () => body.querySelector(".fold-all")?.click() },
    { key: "t", does: "open or fold all thinking", act: () => foldThinking(body) },
    { key: "s", does: "texts as written, or formatted", act: toggleText },
  ];
}

function foldThinking(body) {
  const all = [...body.querySelectorAll("details.thinking")];
  const open = all.some((one) => !one.open);
  for (const one of all) one.open = open;
}

function draw(body, prompt, params, router) {
  const asSource = params.get("text") === "source";
  const responses = inOrder(prompt.responses ?? []);
  body.replaceChildren(
    around(prompt, params),
    h("h1", { class: "unseen" }, `Prompt ${oneLine(prompt.prompt_id, 60)}`),
    facts(prompt),
    h("div", { class: "asked-and-why" }, conversation(prompt, asSource), reasons(prompt, router)),
    choiceTable(prompt, responses),
    responseCards(responses, prompt.split, asSource, toggleText),
  );
}

/** Show the view; `update` shows another prompt of the same filter. */
export async function promptView({ root, run, params, signal }) {
  const body = h("div", { class: "prompt" });
  let asked = null;
  let held = null;
  const update = async (now) => {
    asked?.abort();
    asked = new AbortController();
    const mine = asked;
    const id = now.get("id");
    if (held?.prompt_id === id && now.get("text") !== params.get("text")) {
      params = now;
      return draw(body, held, now, run.router);
    }
    const slow = setTimeout(() => body.replaceChildren(skeleton(9)), body.childElementCount ? 250 : 0);
    try {
      if (!id) throw new Error("This address names no prompt: it would end with ?id=…");
      const query = filterOf(now).toString();
      held = await get(`/api/prompts/${encodeURIComponent(id)}${query && `?${query}`}`,
        { signal: AbortSignal.any([mine.signal, signal]) });
      params = now;
      draw(body, held, now, run.router);
      window.scrollTo(0, 0);
    } catch (error) {
      if (mine.signal.aborted || signal.aborted) return;
      body.replaceChildren(failure(error, () => update(now)));
    } finally {
      clearTimeout(slow);
    }
  };
  root.replaceChildren(body);
  setKeys(keysOf(body));
  await update(params);
  return { update };
}
