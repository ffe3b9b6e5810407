// Now: how far the run is, at what speed and cost; asked for again every two seconds while it runs.

import { get, poll } from "../parts/api.js";
import { badge, bar, h, tile } from "../parts/elements.js";
import { ago, compact, count, duration, money, percent, UNKNOWN } from "../parts/numbers.js";
import { teacher } from "../parts/teacher_names.js";
import { oneLine, visible } from "../parts/text.js";

const EVERY = 2000;
const STATES = { running: "accent", finished: "up", stopped: "warm", failed: "down" };
const STEP_STATES = { done: "up", running: "accent", waiting: "", stopped: "warm", failed: "down" };

const share = (part, whole) => (whole > 0 && part !== null ? Math.min(1, part / whole) : null);

function describe(run) {
  const facts = [
    ["Student", visible(run.student ?? UNKNOWN)],
    ["Teachers", count(run.teachers?.length)],
    ["Prompts", count(run.num_prompts)],
    ["α", run.alpha ?? UNKNOWN],
    ["Run folder", visible(run.address ?? UNKNOWN)],
  ];
  return h("p", { class: "facts" }, facts.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, String(value)))));
}

function stepShare(step) {
  if (step.state === "done") return 1;
  return share(step.rows, step.total_rows) ?? 0;
}

function costTile(now) {
  const most = Math.max(now.budget ?? 0, now.planned_cost ?? 0, now.cost ?? 0);
  if (!most) return tile("Cost", money(now.cost), "no prices in the recipe, or nothing spent");
  const notes = [now.planned_cost !== null && `plan ${money(now.planned_cost)}`,
    now.budget !== null ? `budget ${money(now.budget)}` : "no budget"].filter(Boolean);
  const over = now.budget !== null && now.cost > now.budget;
  const track = bar(share(now.cost, most), over ? "var(--down)" : null, "thick");
  if (now.planned_cost) {
    track.append(h("span", { class: "tick", style: { left: `${100 * share(now.planned_cost, most)}%` } }));
  }
  return tile("Cost so far", money(now.cost), notes.join(" · "), track);
}

function tiles(now) {
  const steps = now.steps ?? [];
  const done = steps.filter((step) => step.state === "done").length;
  const running = steps.filter((step) => step.state === "running");
  const speed = running.reduce((sum, step) => sum + (step.tokens_per_second ?? 0), 0);
  const left = running.map((step) => step.eta_seconds).filter((one) => one !== null && one !== undefined);
  const at = running.map((step) => step.name).join(", ");
  const took = steps.reduce((sum, step) => sum + (step.seconds ?? 0), 0);
  return h(
    "div",
    { class: "tiles" },
    tile("Steps", `${done} of ${steps.length}`, at ? `at ${at}` : now.state, bar(share(done, steps.length), null, "thick")),
    tile("Time", duration(took), left.length ? `${duration(Math.max(...left))} left in this step` : "in all steps"),
    tile("Speed", speed ? `${compact(speed)} tokens/s` : UNKNOWN, speed ? "now, all teachers together" : "no step is writing tokens"),
    costTile(now),
  );
}

function rowsOf(step) {
  if (step.state === "waiting" && !step.rows) return step.total_rows ? count(step.total_rows) : "";
  if (step.total_rows && step.rows !== step.total_rows) return `${count(step.rows)} of ${count(step.total_rows)}`;
  return count(step.rows);
}

function stepRow(step) {
  const done = stepShare(step);
  return h(
    "tr",
    { class: `step ${step.state}` },
    h("th", { scope: "row" }, step.name, step.note && h("small", { class: "step-note" }, step.note)),
    h("td", {}, badge(step.state, STEP_STATES[step.state] ?? "")),
    h("td", { class: "grow" }, bar(done)),
    h("td", { "data-name": "Rows" }, rowsOf(step)),
    h("td", { "data-name": "Took" }, step.state === "waiting" ? "" : duration(step.seconds)),
    h("td", { "data-name": "Left" }, step.state === "running" ? duration(step.eta_seconds) : ""),
    h("td", { "data-name": "Tokens/s" }, step.tokens_per_second ? compact(step.tokens_per_second) : ""),
    h("td", { "data-name": "Cost" }, step.cost ? money(step.cost) : "",
      step.planned_cost ? h("small", {}, ` plan ${money(step.planned_cost)}`) : null),
  );
}

function head(names) {
  return h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
}

function stepTable(steps) {
  return h(
    "section",
    { "aria-labelledby": "steps-title" },
    h("h2", { id: "steps-title" }, "Steps"),
    h("div", { class: "card scroll" },
      h("table", { class: "stacked steps" }, head(["Step", "", "", "Rows", "Took", "Left", "Tokens/s", "Cost"]),
        h("tbody", {}, steps.map(stepRow)))),
  );
}

function budgetCell(one) {
  if (!one.budget) return [money(one.cost), one.planned_cost ? h("small", {}, ` plan ${money(one.planned_cost)}`) : null];
  const over = one.cost > one.budget;
  return [`${money(one.cost)} `, h("small", {}, `of ${money(one.budget)}`),
    bar(share(one.cost, one.budget), over ? "var(--down)" : null)];
}

function teacherRow(one) {
  const answered = one.answered ?? 0;
  const cut = share(one.cut, answered);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, teacher(one.name, 36)),
    h("td", { "data-name": "Answered" }, count(one.answered)),
    h("td", { "data-name": "At work" }, one.at_work ? h("b", { class: "accent-text" }, count(one.at_work)) : count(one.at_work)),
    h("td", { "data-name": "Cut", class: cut > 0.1 ? "lower" : "" }, count(one.cut), one.cut ? h("small", {}, ` ${percent(cut)}`) : null),
    h("td", { "data-name": "Failed" }, one.failed ? h("a", { href: "/dead-letters" }, count(one.failed)) : count(one.failed)),
    h("td", { "data-name": "Tokens" }, compact(one.tokens)),
    h("td", { "data-name": "Cost", class: "cost" }, budgetCell(one)),
  );
}

function teacherTable(teachers) {
  if (!teachers.length) return null;
  return h(
    "section",
    { "aria-labelledby": "at-work-title" },
    h("h2", { id: "at-work-title" }, "Teachers"),
    h("div", { class: "card scroll" },
      h("table", { class: "stacked" }, head(["Teacher", "Answered", "At work", "Cut", "Failed", "Tokens", "Cost"]),
        h("tbody", {}, teachers.map(teacherRow)))),
  );
}

/** Why a run has failed: the first line of its error, the others folded, and what to do. */
function troubleNote(trouble) {
  if (!trouble) return "";
  const [first, ...others] = trouble.error.trim().split("\n");
  const rest = others.join("\n").trim();
  return h("section", { class: "note wrong trouble", role: "alert", "aria-label": "Why the run failed" },
    h("p", {}, h("b", {}, trouble.step ? `Step ${trouble.step} failed. ` : "The run failed. "), first),
    rest && h("details", {}, h("summary", {}, "The whole message"), h("pre", { class: "detail", tabindex: "0" }, rest)),
    h("p", { class: "muted" }, trouble.advice));
}

function draw(body, run, now) {
  const live = now.state === "running";
  body.replaceChildren(
    h("div", { class: "title-line" },
      h("h1", {}, oneLine(run.name ?? "run", 90)),
      badge(now.state ?? "unknown", STATES[now.state] ?? ""),
      h("span", { class: "muted updated" }, live ? "updated " : "last written ", ago(now.updated))),
    describe(run),
    troubleNote(now.trouble),
    tiles(now),
    stepTable(now.steps ?? []),
    teacherTable(now.teachers ?? []) ?? "",
  );
}

/** Show the view and keep it fresh until `signal` ends it. */
export async function nowView({ root, run, signal }) {
  const trouble = h("p", { class: "note wrong", role: "alert", hidden: true });
  const body = h("div");
  const look = async () => {
    try {
      const now = await get("/api/now", { signal, quiet: true });
      if (signal.aborted) return false;
      draw(body, run, now);
      trouble.hidden = true;
      return now.state === "running";
    } catch (error) {
      if (signal.aborted) return false;
      trouble.textContent = `${visible(error.message)} Trying again.`;
      trouble.hidden = false;
      return true;
    }
  };
  const first = await get("/api/now", { signal });
  draw(body, run, first);
  root.replaceChildren(trouble, body);
  if (first.state === "running") poll(look, EVERY, signal);
}
