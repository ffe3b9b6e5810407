// Dead letters: what failed, by step and reason, with how often, at which teachers, and one example.

import { get } from "../parts/api.js";
import { address } from "../parts/address.js";
import { badge, bar, h } from "../parts/elements.js";
import { count, percent } from "../parts/numbers.js";
import { teacher } from "../parts/teacher_names.js";
import { oneLine } from "../parts/text.js";

function example(one) {
  if (!one) return null;
  return h(
    "div",
    { class: "example" },
    h("p", { class: "muted" }, "For example ",
      h("a", { href: address("/prompt", { id: one.prompt_id }) }, oneLine(one.prompt_id, 60)),
      one.teacher && [" at ", teacher(one.teacher)]),
    one.detail && h("pre", { class: "detail", tabindex: "0" }, one.detail),
  );
}

function reasonCard(one, total) {
  const names = Object.entries(one.teachers ?? {}).sort((a, b) => b[1] - a[1]);
  return h(
    "article",
    { class: "card reason" },
    h("div", { class: "title-line" },
      h("h2", {}, one.reason),
      badge(`step ${one.step}`),
      h("span", { class: "many" }, count(one.count), h("small", {}, ` ${percent(one.count / total)}`))),
    bar(one.count / total, "var(--down)"),
    names.length > 0 && h("ul", { class: "plain-list" },
      names.map(([name, number]) => h("li", {}, teacher(name), h("span", { class: "muted" }, ` ${count(number)}`)))),
    example(one.example),
  );
}

/** Show all reasons, the most frequent first. */
export async function deadLettersView({ root, signal }) {
  const { total, reasons = [] } = await get("/api/dead-letters", { signal });
  if (signal.aborted) return;
  const title = h("h1", {}, "Dead letters");
  if (!total) {
    root.replaceChildren(title, h("p", { class: "lead empty" }, "No row has failed."));
    return;
  }
  const sorted = [...reasons].sort((a, b) => b.count - a.count);
  root.replaceChildren(
    title,
    h("p", { class: "lead" }, `${count(total)} row${total === 1 ? "" : "s"} could not be carried through. `,
      "They are counted here; nothing was put in their place."),
    ...sorted.map((one) => reasonCard(one, total)),
  );
}
