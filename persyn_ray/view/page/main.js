// Starts the pages: reads the address, shows its view, and keeps both in step with back and forward.

import { get } from "./parts/api.js";
import { currentAddress, followLinks, onAddress } from "./parts/address.js";
import { failure, h, skeleton } from "./parts/elements.js";
import { connectKeys, setKeys } from "./parts/keys.js";
import { setTeachers } from "./parts/teacher_names.js";
import { visible } from "./parts/text.js";
import { deadLettersView } from "./views/dead_letters.js";
import { nowView } from "./views/now.js";
import { promptView } from "./views/prompt.js";
import { promptsView } from "./views/prompts.js";
import { reportView } from "./views/report.js";
import { teachersView } from "./views/teachers.js";

const VIEWS = {
  "/": { page: "now", title: "Now", show: nowView },
  "/prompts": { page: "prompts", title: "Prompts", show: promptsView },
  "/prompt": { page: "prompts", title: "Prompt", show: promptView },
  "/teachers": { page: "teachers", title: "Teachers", show: teachersView },
  "/dead-letters": { page: "dead-letters", title: "Dead letters", show: deadLettersView },
  "/run-report": { page: "run-report", title: "Report", show: reportView },
};

const root = document.getElementById("page");
const FRESH = 10_000; // milliseconds that the run's facts are good for: tasks and reports come while it goes on
let run = null;
let readAt = -Infinity;
let shown = null; // { path, controller, update }

function markNavigation(page) {
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function readRun() {
  if (run && performance.now() - readAt < FRESH) return run;
  run = await get("/api/run");
  readAt = performance.now();
  setTeachers(run.teachers ?? []);
  const name = visible(run.name ?? "run");
  const label = document.getElementById("run-name");
  label.textContent = name;
  label.title = visible(run.address ?? name);
  return run;
}

function setTitle(view) {
  document.title = `${view.title} – ${visible(run?.name ?? "PerSyn run")}`;
}

/** Show the view of an address; `restored` is where a page that was left had been scrolled to. */
async function show({ path, params }, restored = null) {
  const view = VIEWS[path];
  if (!view) return showUnknown(path);
  if (shown?.path === path && shown.update) return shown.update(params);
  shown?.controller.abort();
  const controller = new AbortController();
  shown = { path, controller, update: null };
  const mine = shown;
  markNavigation(view.page);
  setKeys([]);
  if (root.childElementCount) root.replaceChildren(skeleton(6));
  try {
    const facts = await readRun();
    setTitle(view);
    const made = await view.show({ root, run: facts, params, signal: controller.signal });
    if (controller.signal.aborted) return;
    mine.update = made?.update ?? null;
    settle(restored);
  } catch (error) {
    if (controller.signal.aborted) return;
    root.replaceChildren(failure(error, () => { shown = null; show({ path, params }); }));
  }
}

function settle(restored) {
  if (restored === null) return;
  window.scrollTo(0, restored);
  if (restored === 0) root.focus({ preventScroll: true });
}

function showUnknown(path) {
  shown?.controller.abort();
  shown = null;
  root.replaceChildren(
    h("h1", {}, "No such page"),
    h("p", { class: "lead" }, `${visible(path)} is none of this run's pages; the bar above names them.`),
  );
}

connectKeys();
followLinks();
onAddress(show);
show(currentAddress());
