"""The method as a list of steps: what each depends on in the recipe, and its function.

prompts -> collect -> score -> rewards -> router -> route -> synthesize -> finetune -> evaluate

Baselines replace the router by another way to fill the assignment and share every other step. Small
tables (rewards of the parallel set) are worked on by the driver, shard by shard; models run on Ray.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from persyn_ray.pipeline import (
    collect,
    dead_letters,
    load_prompts,
    score,
    template_readers,
    unreadable_responses,
    write_examples,
)
from persyn_ray.pipeline.assign import assignments, constrained
from persyn_ray.pipeline.choices import (
    assigned_methods,
    collected_splits,
    open_splits,
    students,
)
from persyn_ray.pipeline.plan.forecast import write_forecast
from persyn_ray.pipeline.progress import follow, watch_training
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.shards.aggregates import teacher_aggregates
from persyn_ray.shards.tables import shard_rewards, shards_of
from persyn_ray.shards.units import Progress, Unit, Work, units_of
from persyn_ray.shards.work import EvaluateShard, RouteShard
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import (
    RunLayout,
    marking,
    measuring,
    parts_of,
    seen_by_student,
    teacher_identity,
)
from persyn_ray.storage.records import Settings
from persyn_ray.storage.results import (
    CollectResult,
    EvaluateResult,
    FinetuneResult,
    PromptsResult,
    RewardsResult,
    RouteResult,
    RouterResult,
    ScoreResult,
    StepResult,
    SynthesizeResult,
)


@dataclass(frozen=True)
class Context:
    """What a step works with."""

    recipe: Recipe
    run: RunLayout
    identity: str
    """Fingerprint of the step."""
    console: Console


@dataclass(frozen=True)
class Step:
    """One step: its identity, what it leaves, and how it is done."""

    result: type[StepResult]
    """What it finds; names the step."""
    reads: tuple[str, ...]
    """Steps whose output it reads."""
    settings: Callable[[Recipe], Settings]
    """What the recipe says about it, under the recipe's own keys."""
    carry_out: Callable[[Context], dict[str, Any]]
    """Does the work and returns counts for the record."""
    leaves: Callable[[RunLayout], list[Folder]]
    """Folders that belong to this step alone and go when it is done anew."""
    on_ray: bool = True

    @property
    def name(self) -> str:
        """The step's name in records and on the command line."""
        return self.result.step


def _dump(section: Any, *names: str) -> Settings:
    return section.model_dump(mode="json", include=set(names) if names else None)


def _on_pool(
    context: Context,
    build: Callable[[], Work],
    units: Sequence[Unit],
    resources: StepResourcesConfig,
    step: str,
) -> Progress:
    from persyn_ray.runtime.pools import run_units

    done = run_units(build, units, resources, step)
    return follow(done, step, len(units), context.console)


def _prompts(context: Context) -> dict[str, Any]:
    return load_prompts.write_prompts(context.recipe, context.run)


def _collect(context: Context) -> dict[str, Any]:
    write_forecast(context.recipe, context.run, "collect")
    shards = shards_of(context.run, *collected_splits(context.recipe.compare))
    counts = _ask(context, "collect", shards, None)
    return counts | _endings(context, "collect")


def _endings(context: Context, step: str) -> dict[str, Any]:
    """Write the failures of a step's teachers, and count responses that ended in unknown words."""
    dead_letters.write_failures(context.recipe, context.run, step)
    odd = dead_letters.odd_endings(context.recipe, context.run, step)
    for note, num in odd.items():
        context.console.print(f"  {num:,} responses with {note}", markup=False, highlight=False)
    return {"odd_endings": odd} if odd else {}


def _ask(
    context: Context, step: str, shards: Sequence[str], methods: tuple[str, ...] | None
) -> dict[str, Any]:
    return collect.ask(context.recipe, context.run, step, shards, methods, context.console)


def _score(context: Context) -> dict[str, Any]:
    recipe, run, console = context.recipe, context.run, context.console
    shards = shards_of(run, *collected_splits(recipe.compare))
    if not recipe.measures_learnability:
        console.print("score: learnability is not measured (alpha is 0, scoring.measure if_needed)")
    counts = score.score(recipe, run, shards, partial(_on_pool, context))
    if num := counts.get("over_budget"):
        console.print(
            f"{num:,} responses have no grade: the budget of their judge is used up. With a larger "
            "`budget`, `persyn run RECIPE --from score` asks for these alone.",
            style="yellow",
            markup=False,
        )
    return counts | unreadable_responses.file_unreadable(recipe, run, shards, console)


def _rewards(context: Context) -> dict[str, Any]:
    shards = shards_of(context.run, *collected_splits(context.recipe.compare))
    rows = 0
    for shard in shards:
        table = shard_rewards(context.recipe, shard)
        context.run.rewards.write_table(shard, table)
        rows += table.num_rows
    recipe, run, parts = context.recipe, context.run, parts_of(context.recipe.scoring)
    parallel = shards_of(run, "parallel")
    means = teacher_aggregates(run, recipe.teachers, parts, recipe.responses, parallel)
    return {"rows": rows, "teachers": means}


def _router(context: Context) -> dict[str, Any]:
    from persyn_ray.runtime.training import PROGRESS_FILE, fit_router

    assignments.require_preferences(context.run, len(context.recipe.pool))
    with watch_training(context.run.records, PROGRESS_FILE, context.console):
        fit_router(context.recipe, context.identity)
    return {"rows": context.run.router.read_json("fit.json")["num_fit"]}


def _route(context: Context) -> dict[str, Any]:
    recipe, run = context.recipe, context.run
    splits = ("parallel", "routed") + (("heldout",) if recipe.compare.heldout else ())
    units = units_of(shards_of(run, *splits))
    _on_pool(context, partial(RouteShard, recipe), units, recipe.resources.route, "route")
    return assignments.write_assignments(recipe, run, assigned_methods(recipe.compare))


def _synthesize(context: Context) -> dict[str, Any]:
    recipe, run = context.recipe, context.run
    methods = assigned_methods(recipe.compare)
    shards = shards_of(run, *open_splits(recipe.compare))
    write_forecast(recipe, run, "synthesize")
    counts = _ask(context, "synthesize", shards, methods)
    if recipe.responses.incomplete == "next_best":
        # Each round takes at least one teacher out of a prompt's candidates, so this ends.
        while assignments.reassign(recipe, run, methods):
            counts = _added(counts, _ask(context, "synthesize", shards, methods))
        counts |= constrained.after_reassigning(run)
    counts |= _endings(context, "synthesize")
    counts["examples"] = {
        method: write_examples.write_examples(recipe, run, method) for method in methods
    }
    return counts


def _added(counts: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Counts of two rounds of the same step, key by key."""
    total = dict(counts)
    for name, value in more.items():
        if isinstance(value, dict):
            total[name] = _added(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total


def _finetune(context: Context) -> dict[str, Any]:
    from persyn_ray.runtime.training import PROGRESS_FILE, finetune

    methods = assigned_methods(context.recipe.compare)
    with watch_training(context.run.records, PROGRESS_FILE, context.console):
        finetune(context.recipe, methods, context.identity)
    facts = {method: context.run.student(method).read_json("finetune.json") for method in methods}
    context.run.remove(context.run.checkpoints)
    for method, fact in facts.items():
        if fact["num_too_long"] or fact["num_unreadable"]:
            context.console.print(_left_out(method, fact), style="yellow", markup=False)
    return {"rows": sum(fact["num_examples"] for fact in facts.values()), "students": facts}


def _left_out(method: str, fact: dict[str, Any]) -> str:
    """A line on the examples that a student was not tuned on."""
    why = fact["first_unreadable"]
    return (
        f"finetune: of the examples of {method}, {fact['num_too_long']:,} were longer than "
        f"finetune.max_length and {fact['num_unreadable']:,} unreadable for the student"
        + (f". The first: {why}" if why else "")
    )


def _evaluate(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    units = [
        {"shard": shard, "student": student, "rows": str(rows)}
        for student in students(recipe)
        for shard, rows in _limited(context.run, recipe.evaluate.limit)
    ]
    build = partial(EvaluateShard, recipe)
    done = _on_pool(context, build, units, recipe.resources.evaluate, "evaluate")
    return {"rows": done.rows, "tokens": done.tokens}


def _limited(run: RunLayout, limit: int | None) -> Iterator[tuple[str, int]]:
    """Held-out shards with the number of problems to take of each."""
    left = limit
    for shard in shards_of(run, "heldout"):
        rows = run.prompts.num_rows(shard)
        if left is not None:
            rows = min(rows, left)
            left -= rows
        if rows:
            yield shard, rows


STEPS: tuple[Step, ...] = (
    Step(
        PromptsResult,
        (),
        # Prompts whose reference a check cannot read are none, nor are those that the student, the
        # router or a reward model cannot: so these decide as well.
        lambda r: {
            "prompts": _dump(r.prompts),
            "evaluate": _dump(r.evaluate, "path", "check"),
            "scoring": score.reading_settings(r),
            **template_readers.reading_settings(r),
        },
        _prompts,
        lambda run: [run.prompts, run.dead_letters("prompts")],
        on_ray=False,
    ),
    Step(
        CollectResult,
        ("prompts",),
        lambda r: {
            "teachers": {t.name: teacher_identity(t) | _dump(t, "num_probe") for t in r.teachers},
            "compare": {"splits": list(collected_splits(r.compare))},
            "responses": marking(r.responses),
        },
        _collect,
        # Responses stay: they are filed by what determines them.
        lambda run: [run.dead_letters("collect"), run.unavailable("collect", "")],
    ),
    Step(
        ScoreResult,
        ("collect",),
        lambda r: {
            "student": _dump(r.student),
            "scoring": {
                "quality": score.quality_settings(r),
                "measure": "always" if r.measures_learnability else "if_needed",
                **measuring(r.scoring),
            },
            "responses": seen_by_student(r.responses),
        },
        _score,
        lambda run: [run.dead_letters("score")],
    ),
    Step(
        RewardsResult,
        ("score",),
        # From here on tables hold one value per teacher, in the pool's order.
        lambda r: {
            "scoring": _dump(r.scoring, "learnability", "alpha", "alpha_by_difficulty", "scaling")
            | score.weight_settings(r),
            "responses": _dump(r.responses, "incomplete"),
            "teachers": list(r.pool.names),
        },
        _rewards,
        lambda run: [run.rewards],
        on_ray=False,
    ),
    Step(
        RouterResult,
        ("rewards",),
        lambda r: {"router": _dump(r.router)},
        _router,
        lambda run: [run.router, run.checkpoints],
    ),
    Step(
        RouteResult,
        ("router",),
        lambda r: {
            "compare": _dump(r.compare),
            "teachers": {
                t.name: _dump(t, "retired", *constrained.priced(r.assignment)) for t in r.teachers
            },
            **constrained.settings(r.assignment),
        },
        _route,
        lambda run: [
            run.logits,
            run.embeddings,
            run.novelty,
            run.assignment(""),
            run.within_limits,
            run.dead_letters("route"),
        ],
    ),
    Step(
        SynthesizeResult,
        ("route",),
        lambda r: {"responses": _dump(r.responses, "incomplete")},
        _synthesize,
        lambda run: [
            run.examples(""),
            run.dataset,
            run.dead_letters("synthesize"),
            run.unavailable("synthesize", ""),
        ],
    ),
    Step(
        FinetuneResult,
        ("synthesize",),
        lambda r: {"student": _dump(r.student), "finetune": _dump(r.finetune)},
        _finetune,
        lambda run: [run.student(""), run.checkpoints],
    ),
    Step(
        EvaluateResult,
        ("finetune",),
        lambda r: {"evaluate": _dump(r.evaluate, "max_tokens", "check", "limit")},
        _evaluate,
        lambda run: [run.evaluations("")],
    ),
)
STEP_NAMES: tuple[str, ...] = (*(step.name for step in STEPS), "report")
