// Prompts: the run's prompts by page, with search, filters and order, all of them in the address.

import { get } from "../parts/api.js";
import { address, currentAddress, go, withChanges } from "../parts/address.js";
import { announce, badge, failure, h, skeleton } from "../parts/elements.js";
import { filterBar } from "../parts/filter_bar.js";
import { FLAGS, filterWords, listQuery, offsetOf, PAGE_ROWS, promptAddress } from "../parts/filters.js";
import { setKeys } from "../parts/keys.js";
import { count, fixed } from "../parts/numbers.js";
import { teacher } from "../parts/teacher_names.js";
import { oneLine } from "../parts/text.js";

const READING = 1500; // milliseconds after which a list that is still being read is asked for again
const COLUMNS = [
  { key: "prompt", name: "Prompt" },
  { name: "Teacher", title: "Whom PerSyn's assignment gives the prompt to" },
  { key: "margin", name: "Margin", title: "How far the router's best teacher is ahead of the second, in logits" },
  { key: "best_reward", name: "Best reward", title: "Highest reward of any teacher's response" },
  { key: "spread", name: "Spread", title: "Highest less lowest reward" },
  { key: "novelty", name: "Novelty", title: "Distance to the nearest prompt of the parallel set" },
];

function sortLink(column, params) {
  const sort = params.get("sort") ?? "";
  const next = sort === `-${column.key}` ? column.key : sort === column.key ? null : `-${column.key}`;
  const arrow = sort === column.key ? " ↑" : sort === `-${column.key}` ? " ↓" : "";
  return h("a", { href: address("/prompts", withChanges(params, { sort: next, offset: null })), title: column.title }, column.name, arrow);
}

function head(params) {
  const sort = params.get("sort") ?? "";
  const order = (key) => (sort === key ? "ascending" : sort === `-${key}` ? "descending" : null);
  return h("thead", {}, h("tr", {}, COLUMNS.map((column) =>
    h("th", { scope: "col", "aria-sort": column.key ? order(column.key) : null, title: column.title },
      column.key ? sortLink(column, params) : column.name))));
}

function flagBadges(row) {
  return (row.flags ?? []).map((flag) => badge(FLAGS[flag]?.label ?? flag, FLAGS[flag]?.kind ?? "", FLAGS[flag]?.title));
}

function promptRow(row, params) {
  const facts = [row.task, row.split].filter(Boolean).map((one) => h("span", {}, oneLine(one, 40)));
  const where = promptAddress(row.prompt_id, params);
  return h(
    "tr",
    { onclick: (event) => !event.target.closest("a") && !String(getSelection()) && go(where) },
    h("th", { scope: "row" },
      h("a", { class: "prompt-text", href: where }, oneLine(row.text ?? "", 240) || "(empty)"),
      h("div", { class: "under" }, h("span", { class: "facts" }, facts), flagBadges(row))),
    h("td", { class: "who" }, teacher(row.teacher, 22)),
    h("td", { "data-name": "Margin" }, fixed(row.margin)),
    h("td", { "data-name": "Best reward" }, fixed(row.best_reward)),
    h("td", { "data-name": "Spread" }, fixed(row.spread)),
    h("td", { "data-name": "Novelty" }, fixed(row.novelty)),
  );
}

/** What to say of a list that is not whole: a search goes on when asked again, reading goes on by itself. */
function unfinished(found, params, again) {
  if (found.is_complete !== false) return null;
  const so = found.searched ? ` after ${count(found.searched)} prompts` : "";
  if (!params.get("search")) {
    return h("p", { class: "note warm-note", role: "status" }, `The run is still being read${so}; the list grows.`);
  }
  return h("p", { class: "note warm-note", role: "status" }, `The search stopped at its time limit${so}: there may be more. `,
    h("button", { type: "button", onclick: again }, "Search on"));
}

function range(found) {
  const { offset, rows, total } = found;
  const atLeast = found.is_complete === false ? "at least " : "";
  if (!rows.length) return offset > 0 ? `Nothing here: there are ${atLeast}${count(total)}` : "0 prompts";
  return `${count(offset + 1)}–${count(offset + rows.length)} of ${atLeast}${count(total)}`;
}

function pageAddress(params, offset) {
  return address("/prompts", withChanges(params, { offset: offset > 0 ? offset : null }));
}

function pager(found, params) {
  const previous = Math.max(0, found.offset - PAGE_ROWS);
  const more = found.offset + found.rows.length < found.total;
  const step = (name, on, offset, key) => on
    ? h("a", { class: "button", href: pageAddress(params, offset), "aria-keyshortcuts": key }, name)
    : h("span", { class: "button off", "aria-disabled": "true" }, name);
  return h("nav", { class: "pager", "aria-label": "Pages of the list" },
    step("← Previous", found.offset > 0, previous, "p"), h("span", { class: "range" }, range(found)),
    step("Next →", more, found.offset + PAGE_ROWS, "n"));
}

function table(found, params) {
  if (!found.rows.length) {
    const words = filterWords(params);
    return h("p", { class: "lead empty" }, words ? `No prompt fits ${words}.` : "This run has no prompts yet.");
  }
  return h("div", { class: "card flush" },
    h("table", { class: "prompts" }, head(params), h("tbody", {}, found.rows.map((row) => promptRow(row, params)))));
}

function keysOf(list, search) {
  const links = () => [...list.querySelectorAll("a.prompt-text")];
  const step = (by) => {
    const all = links();
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  const page = (key) => list.querySelector(`a[aria-keyshortcuts="${key}"]`)?.click();
  return [
    { key: "/", does: "search", act: () => { search.focus(); search.select(); } },
    { key: "j", also: "ArrowDown", does: "next row", act: () => step(1) },
    { key: "k", also: "ArrowUp", does: "row before", act: () => step(-1) },
    { key: "Enter", does: "open the row", act: () => (links().includes(document.activeElement) ? document.activeElement : links()[0])?.click() },
    { key: "n", does: "next page", act: () => page("n") },
    { key: "p", does: "page before", act: () => page("p") },
  ];
}

/** Show the view; `update` shows another page or filter of it. */
export async function promptsView({ root, run, params, signal }) {
  const bar = filterBar(run);
  const list = h("div", { class: "list" });
  let asked = null;
  const update = async (now) => {
    asked?.abort();
    asked = new AbortController();
    const mine = asked;
    bar.show(now);
    const slow = setTimeout(() => list.replaceChildren(skeleton(10)), list.childElementCount ? 250 : 0);
    try {
      const found = await get(`/api/prompts?${listQuery(now)}`, { signal: AbortSignal.any([mine.signal, signal]) });
      const again = () => !mine.signal.aborted && !signal.aborted && update(now);
      list.replaceChildren(...[unfinished(found, now, again), table(found, now), pager(found, now)].filter(Boolean));
      if (found.is_complete === false && !now.get("search")) setTimeout(again, READING);
      announce(range(found));
      if (offsetOf(now) !== offsetOf(params)) window.scrollTo(0, 0);
      params = now;
    } catch (error) {
      if (mine.signal.aborted || signal.aborted) return;
      list.replaceChildren(failure(error, () => update(currentAddress().params)));
    } finally {
      clearTimeout(slow);
    }
  };
  root.replaceChildren(h("h1", { class: "unseen" }, "Prompts"), bar.element, list);
  setKeys(keysOf(list, bar.search));
  await update(params);
  return { update };
}
