// Teachers: shares by method, figures of each, quality against learnability, and how often they agree.

import { get } from "../parts/api.js";
import { h } from "../parts/elements.js";
import { compact, count, fixed, percent, UNKNOWN } from "../parts/numbers.js";
import { agreementTable } from "../parts/agreement.js";
import { scatter } from "../parts/scatter.js";
import { colourOf, shortName, teacher } from "../parts/teacher_names.js";
import { visible } from "../parts/text.js";

const missing = (value) => value === null || value === undefined;

function price(one) {
  if (missing(one.price_in) && missing(one.price_out)) return UNKNOWN;
  const part = (value) => (missing(value) ? UNKNOWN : `$${value}`);
  return `${part(one.price_in)} / ${part(one.price_out)}`;
}

function lengthCell(length, longest) {
  if (!length || missing(length.p50)) return UNKNOWN;
  const at = (value) => `${(100 * value) / longest}%`;
  const low = length.p10 ?? length.p50;
  const high = length.p90 ?? length.p50;
  return [
    h("span", { class: "spread", "aria-hidden": "true" },
      h("span", { class: "reach", style: { left: at(low), width: at(high - low) } }),
      h("span", { class: "median", style: { left: at(length.p50) } })),
    h("span", { class: "number", title: `10 %: ${compact(low)}, 90 %: ${compact(high)}, longest ${compact(length.max)}` }, compact(length.p50)),
  ];
}

function row(one, longest) {
  return h("tr", {},
    h("th", { scope: "row" }, teacher(one.name, 34), !missing(one.size) && h("small", {}, ` ${one.size}`)),
    h("td", { "data-name": "Share" }, percent(one.share)),
    h("td", { "data-name": "Quality" }, fixed(one.quality, 3)),
    h("td", { "data-name": "Learnability" }, fixed(one.learnability, 3)),
    h("td", { "data-name": "Reward" }, fixed(one.reward, 3)),
    h("td", { "data-name": "Responses" }, count(one.num_responses)),
    h("td", { "data-name": "Cut", class: one.cut_share > 0.1 ? "lower" : "" }, percent(one.cut_share)),
    h("td", { "data-name": "Failed", class: one.failed_share > 0.1 ? "lower" : "" }, percent(one.failed_share)),
    h("td", { "data-name": "Tokens", class: "lengths" }, lengthCell(one.length, longest)),
    h("td", { "data-name": "Price in / out" }, price(one)));
}

function figures(teachers) {
  const longest = Math.max(1, ...teachers.map((one) => one.length?.p90 ?? one.length?.p50 ?? 0));
  const names = ["Teacher", "Share", "Quality", "Learnability", "Reward", "Responses", "Cut", "Failed", "Tokens, median", "Price in / out"];
  return h("section", { class: "card scroll" },
    h("table", { class: "stacked figures-table" },
      h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, teachers.map((one) => row(one, longest)))),
    h("p", { class: "caption" }, "Means over all responses. Learnability in nats per token; price per million tokens; ",
      "the bar of tokens reaches from the 10th to the 90th hundredth."));
}

function methodsOf(teachers, run) {
  const named = teachers.flatMap((one) => Object.keys(one.shares ?? {}));
  const all = [...new Set([...(run.methods ?? []), ...named])].filter((method) => named.includes(method));
  if (!all.includes("persyn") && teachers.some((one) => !missing(one.share))) all.unshift("persyn");
  return all.sort((a, b) => (b === "persyn") - (a === "persyn"));
}

function shareOf(one, method) {
  return one.shares?.[method] ?? (method === "persyn" ? one.share : null) ?? 0;
}

function shareRow(method, teachers) {
  const words = teachers.map((one) => `${shortName(one.name)} ${percent(shareOf(one, method))}`).join(", ");
  return [
    h("div", { class: method === "persyn" ? "method strong" : "method" }, method.replaceAll("_", " ")),
    h("div", { class: "stack", role: "img", "aria-label": `${method}: ${words}` },
      teachers.filter((one) => shareOf(one, method) > 0).map((one) => {
        const share = shareOf(one, method);
        return h("span", { style: { "flex-grow": String(share), "--teacher": colourOf(one.name) },
          title: `${visible(one.name)} ${percent(share)}` }, share >= 0.08 ? percent(share, 0) : "");
      })),
  ];
}

function shares(teachers, run) {
  const methods = methodsOf(teachers, run);
  if (!methods.length) return null;
  return h("section", { class: "card" },
    h("h2", {}, "Shares by method"),
    h("div", { class: "stacks" }, methods.map((method) => shareRow(method, teachers))),
    h("ul", { class: "legend" }, teachers.map((one) => h("li", {}, teacher(one.name, 24)))));
}

/** Show the view of what /api/teachers knows. */
export async function teachersView({ root, run, signal }) {
  const found = await get("/api/teachers", { signal });
  if (signal.aborted) return;
  const teachers = found.teachers ?? [];
  if (!teachers.length) {
    root.replaceChildren(h("h1", {}, "Teachers"), h("p", { class: "lead empty" }, "Nothing has been collected yet."));
    return;
  }
  root.replaceChildren(
    h("h1", {}, "Teachers"),
    figures(teachers),
    shares(teachers, run) ?? "",
    h("div", { class: "pair" }, scatter(found.points ?? [], teachers), agreementTable(found.agreement)),
  );
}
