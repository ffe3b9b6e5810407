// The bar above the list of prompts: search, selects, chips for flags; changes go into the address.

import { currentAddress, address, go, withChanges } from "./address.js";
import { h } from "./elements.js";
import { FLAGS, SORTS } from "./filters.js";
import { shortName } from "./teacher_names.js";
import { oneLine } from "./text.js";

const TYPING = 300; // milliseconds of rest before a search is sent

function change(changes, replace = false) {
  const params = withChanges(currentAddress().params, { offset: null, ...changes });
  go(address("/prompts", params), replace);
}

function select(name, label, options) {
  const choice = h(
    "select",
    { name, "aria-label": label, onchange: (event) => change({ [name]: event.target.value }) },
    h("option", { value: "" }, label),
    options.map(([value, text]) => h("option", { value }, text)),
  );
  return choice;
}

function searchBox() {
  let timer = null;
  const input = h("input", {
    type: "search", name: "search", placeholder: "Search prompts", "aria-label": "Search prompts",
    "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", maxlength: 500,
  });
  const send = () => {
    clearTimeout(timer);
    if ((currentAddress().params.get("search") ?? "") !== input.value) change({ search: input.value }, true);
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(send, TYPING);
  });
  input.addEventListener("keydown", (event) => event.key === "Enter" && send());
  return input;
}

function chip(flag) {
  const { label, title } = FLAGS[flag];
  const toggle = () => {
    const on = currentAddress().params.getAll("flag");
    change({ flag: on.includes(flag) ? on.filter((one) => one !== flag) : [...on, flag] });
  };
  return h("button", { type: "button", class: "chip", title, data: { flag }, "aria-pressed": "false", onclick: toggle }, label);
}

function sortOptions() {
  return Object.entries(SORTS).flatMap(([key, label]) => [[key, `${label} ↑`], [`-${key}`, `${label} ↓`]]);
}

/** The bar's element, a function that shows an address in it, and its search box. */
export function filterBar(run) {
  const search = searchBox();
  const named = (values) => (values ?? []).map((one) => [one, oneLine(one, 40)]);
  const selects = {
    task: select("task", "Any task", named(run.tasks)),
    teacher: select("teacher", "Any teacher", (run.teachers ?? []).map(({ name }) => [name, shortName(name, 40)])),
    split: select("split", "Any split", named(run.splits)),
    sort: select("sort", "Order of the run", sortOptions()),
  };
  selects.sort.classList.add("sort");
  selects.task.hidden = !run.tasks?.length;
  const chips = Object.keys(FLAGS).map(chip);
  const clear = h("a", { class: "clear", href: "/prompts" }, "Clear");
  const show = (params) => {
    if (document.activeElement !== search) search.value = params.get("search") ?? "";
    for (const [name, one] of Object.entries(selects)) one.value = params.get(name) ?? "";
    const on = params.getAll("flag");
    for (const one of chips) one.setAttribute("aria-pressed", String(on.includes(one.dataset.flag)));
    clear.hidden = ![...params].some(([name]) => name !== "offset");
  };
  const element = h("search", { class: "filters", role: "search" },
    search, Object.values(selects), h("div", { class: "chips", role: "group", "aria-label": "Only prompts that are" }, chips, clear));
  return { element, show, search };
}
