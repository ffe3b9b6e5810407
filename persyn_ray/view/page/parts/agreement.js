// How often two teachers agree, as a table whose cells are shaded by the share.

import { h } from "./elements.js";
import { fixed } from "./numbers.js";
import { shortName, teacher } from "./teacher_names.js";
import { visible } from "./text.js";

function cell(value, i, j, names) {
  if (i === j) return h("td", { class: "same" }, "");
  const known = typeof value === "number";
  return h("td", {
    class: known ? "heat" : "",
    style: known ? { "--share": String(Math.min(1, Math.max(0, value))) } : null,
    title: `${visible(names[i])} and ${visible(names[j])}`,
  }, fixed(value));
}

/** A card with the matrix; tells so when there is nothing to compare. */
export function agreementTable(agreement) {
  const names = agreement?.names ?? [];
  const title = h("h2", {}, "Agreement between teachers");
  if (names.length < 2) {
    return h("section", { class: "card" }, title, h("p", { class: "lead empty" }, "At least two teachers with scored responses are needed."));
  }
  return h("section", { class: "card" }, title,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Agreement between teachers" },
      h("table", { class: "agreement" },
        h("thead", {}, h("tr", {}, h("td"), names.map((name, i) => h("th", { scope: "col", title: visible(name), "aria-label": visible(name) }, String(i + 1))))),
        h("tbody", {}, names.map((name, i) => h("tr", {},
          h("th", { scope: "row", title: visible(name) }, h("span", { class: "index" }, String(i + 1)), teacher(shortName(name, 22), 22)),
          names.map((_, j) => cell(agreement.matrix?.[i]?.[j], i, j, names))))))),
    h("p", { class: "caption" }, "Share of prompts on which both are right or both are wrong; for graded quality, how far their ranks agree."));
}
