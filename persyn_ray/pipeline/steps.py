"""The method as a list of steps: what each depends on in the recipe, and its function.

prompts -> collect -> score -> rewards -> router -> route -> synthesize -> finetune -> evaluate

Baselines replace the router by another way to fill the assignment and share every other step. Small
tables (rewards of the parallel set) are worked on by the driver, shard by shard; models run on Ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel
from rich.console import Console

from persyn_ray.models.finetune.partitioning import partitioned_for, partitioning
from persyn_ray.pipeline import (
    collect,
    dataset,
    dead_letters,
    evaluate,
    load_prompts,
    score,
    template_readers,
    training,
    unreadable_responses,
)
from persyn_ray.pipeline.assign import assignments, constrained
from persyn_ray.pipeline.assign.methods import response_settings, settings_of
from persyn_ray.pipeline.choices import (
    assigned_methods,
    collected_splits,
    open_splits,
    students,
)
from persyn_ray.pipeline.plan.forecasts.known import forecast_settings
from persyn_ray.pipeline.plan.forecasts.steps import write_forecast
from persyn_ray.pipeline.plan.model_sizes import settled
from persyn_ray.pipeline.progress import Watched, follow
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.training import EvaluateVllmConfig
from persyn_ray.shards.aggregates import teacher_aggregates
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.provenance import RoutedRows
from persyn_ray.shards.route import RouteShard, open_to_route, put_routed_together
from persyn_ray.shards.tables import shard_rewards, shards_of
from persyn_ray.shards.units import Progress, Unit, Work, batches_of
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
    Asked,
    CollectResult,
    EvaluateResult,
    FinetuneResult,
    MethodExamples,
    PromptsResult,
    RewardsResult,
    RouteResult,
    RouterResult,
    ScoreResult,
    StepResult,
    SynthesizeResult,
)

ROUTED_AT_ONCE = 1024  # prompts, in one batch for the router


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
    carry_out: Callable[[Context], StepResult]
    """Does the work and returns what the record holds."""
    leaves: Callable[[RunLayout], list[Folder]]
    """Folders that belong to this step alone and go when it is done anew."""
    on_ray: bool = True

    @property
    def name(self) -> str:
        """The step's name in records and on the command line."""
        return self.result.step


def _dump(section: BaseModel, *names: str) -> Settings:
    return section.model_dump(mode="json", include=set(names) if names else None)


def _on_pool(
    context: Context,
    build: Callable[[], Work],
    units: Sequence[Unit],
    resources: StepResourcesConfig,
    step: str,
    in_flight: int = 1,
) -> Progress:
    from persyn_ray.runtime.pools import run_units

    done = run_units(build, units, resources, step, in_flight)
    return follow(done, Watched(step, len(units), context.console))


def _prompts(context: Context) -> PromptsResult:
    return load_prompts.write_prompts(context.recipe, context.run)


def _collect(context: Context) -> CollectResult:
    write_forecast(forecast_settings(context.recipe), context.run, "collect")
    shards = shards_of(context.run, *collected_splits(context.recipe.compare))
    recipe = context.recipe
    follow_up = score.follow_up(recipe, shards) if recipe.resources.score_with_collect else None
    asked = collect.ask(recipe, context.run, "collect", shards, None, context.console, follow_up)
    return CollectResult(**dict(asked), odd_endings=_endings(context, "collect"))


def _endings(context: Context, step: str) -> dict[str, int]:
    """Write the failures of a step's teachers, and count responses that ended in unknown words."""
    settings = response_settings(context.recipe)
    dead_letters.write_failures(settings, context.run, step)
    odd = dead_letters.odd_endings(settings, context.run, step)
    for note, num in odd.items():
        context.console.print(f"  {num:,} responses with {note}", markup=False, highlight=False)
    return odd


def _ask(
    context: Context, step: str, shards: Sequence[str], methods: tuple[str, ...] | None
) -> Asked:
    return collect.ask(context.recipe, context.run, step, shards, methods, context.console)


def _score(context: Context) -> ScoreResult:
    from persyn_ray.runtime.compaction import compact_tables

    recipe, run, console = context.recipe, context.run, context.console
    shards = shards_of(run, *collected_splits(recipe.compare))
    if not recipe.measures_learnability:
        console.print("score: learnability is not measured (alpha is 0, scoring.measure if_needed)")
    found = score.score(recipe, run, shards, partial(_on_pool, context))
    compact_tables(score.tables(run, recipe.teachers, recipe.scoring))
    if found.over_budget:
        console.print(
            f"{found.over_budget:,} responses have no grade: the budget of their judge is used "
            "up. With a larger `budget`, `persyn run RECIPE --from score` asks for these alone.",
            style="yellow",
            markup=False,
        )
    num_unreadable = unreadable_responses.file_unreadable(recipe, run, shards, console)
    return found.model_copy(update={"unreadable": num_unreadable})


def _rewards(context: Context) -> RewardsResult:
    recipe, run, parts = context.recipe, context.run, parts_of(context.recipe.scoring)
    rows = 0
    for shard in shards_of(run, *collected_splits(recipe.compare)):
        table = shard_rewards(run, recipe.teachers, shard, recipe.scoring, recipe.responses)
        run.rewards.write_table(shard, table)
        rows += table.num_rows
    parallel = shards_of(run, "parallel")
    means = teacher_aggregates(run, recipe.teachers, parts, recipe.responses, parallel)
    return RewardsResult(rows=rows, teachers=means)


def _router(context: Context) -> RouterResult:
    from persyn_ray.runtime.train.training import RouterTraining

    recipe, run = context.recipe, context.run
    if recipe.router.kind == "fitted":
        assignments.require_preferences(run, len(recipe.pool))
    fit = RouterTraining(run, recipe.resources.router, recipe.router, recipe.pool)
    return training.train_router(fit, context.identity, context.console)


def _route(context: Context) -> RouteResult:
    recipe, run = context.recipe, context.run
    splits = ("parallel", "routed") + (("heldout",) if recipe.compare.heldout else ())
    shards = shards_of(run, *splits)
    units = list(batches_of({shard: open_to_route(run, shard) for shard in shards}, ROUTED_AT_ONCE))
    _on_pool(context, partial(RouteShard, recipe), units, recipe.resources.route, "route")
    put_routed_together(run, shards)
    methods, limits = assigned_methods(recipe.compare), constrained.limit_settings(recipe)
    return assignments.write_assignments(settings_of(recipe), limits, run, methods)


def _synthesize(context: Context) -> SynthesizeResult:
    recipe, run = context.recipe, context.run
    methods = assigned_methods(recipe.compare)
    shards = shards_of(run, *open_splits(recipe.compare))
    write_forecast(forecast_settings(recipe), run, "synthesize")
    settings, constraints = response_settings(recipe), None
    asked = _ask(context, "synthesize", shards, methods)
    if settings.moves_on:
        # Each round takes at least one teacher out of a prompt's candidates, so this ends.
        while assignments.reassign(settings, run, methods):
            asked += _ask(context, "synthesize", shards, methods)
        constraints = constrained.after_reassigning(run)
    # For the filter, and because the share of a method's data that is right is told of all of it.
    tells_shares = recipe.compare.students and score.is_one_check(recipe.scoring)
    if "wrong" in recipe.dataset.drop or tells_shares:
        score.check_routed(recipe, run, shards, partial(_on_pool, context))
    odd_endings = _endings(context, "synthesize")
    examples = {
        method: MethodExamples(**dataset.write_examples(settings, run, method))
        for method in methods
    }
    rows = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
    dataset.write_dataset(run, rows, recipe.dataset)
    return SynthesizeResult(
        **dict(asked), odd_endings=odd_endings, examples=examples, constraints=constraints
    )


def _finetune(context: Context) -> FinetuneResult:
    from persyn_ray.runtime.train.training import StudentTraining

    recipe, run = context.recipe, context.run
    methods, resources = assigned_methods(recipe.compare), recipe.resources.finetune
    config = settled(recipe.finetune, recipe.student)
    if config.lora is not None and recipe.finetune.lora == "auto":
        context.console.print("finetune: adapters, as the student is a large one (finetune.lora)")
    partitioned = partitioned_for(config, resources)
    tuning = StudentTraining(run, resources, config, partitioned, recipe.student, methods)
    return training.train_students(tuning, recipe.hardware, context.identity, context.console)


def _evaluate(context: Context) -> EvaluateResult:
    recipe, run = context.recipe, context.run
    names = students(recipe.compare, recipe.evaluate, recipe.scoring)
    build = partial(EvaluateShard, recipe)
    engine = recipe.evaluate.engine
    if isinstance(engine, EvaluateVllmConfig):
        groups = evaluate.student_groups(run, names, recipe.evaluate.limit, engine, build)
        done = evaluate.on_groups(groups, run, context.console)
    else:
        units = evaluate.open_units(run, names, recipe.evaluate.limit)
        done = _on_pool(context, build, units, recipe.resources.evaluate, "evaluate")
    evaluate.put_together(run, names)
    found = {}
    if recipe.evaluate.lm_eval is not None:
        found = evaluate.by_harness(recipe, run, partial(_on_pool, context))
    return EvaluateResult(rows=done.rows, tokens=done.tokens, lm_eval=found)


STEPS: tuple[Step, ...] = (
    Step(
        PromptsResult,
        (),
        # Prompts whose reference a check cannot read are none, nor are those that the student, the
        # router or a reward model cannot: so these decide as well.
        lambda r: {
            "prompts": _dump(r.prompts),
            "evaluate": evaluate.reading_settings(r.evaluate),
            "scoring": score.reading_settings(r.scoring),
            **template_readers.reading_settings(r.student, r.router, r.compare),
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
                "quality": score.quality_settings(r.scoring),
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
            | score.weight_settings(r.scoring),
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
        lambda r: {"router": training.router_settings(r.router)},
        _router,
        lambda run: [run.router, run.checkpoints, run.logs("router")],
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
        lambda r: {
            "responses": _dump(r.responses, "incomplete"),
            "dataset": dataset.learning_settings(r.dataset),
        },
        _synthesize,
        lambda run: [
            run.examples(""),
            run.contaminated(""),
            run.dataset,
            run.dead_letters("synthesize"),
            run.unavailable("synthesize", ""),
        ],
    ),
    Step(
        FinetuneResult,
        ("synthesize",),
        lambda r: {
            "student": _dump(r.student),
            "finetune": r.finetune.model_dump(mode="json", exclude={"report_to"})
            | {"deepspeed": partitioning(r.finetune.deepspeed)},
        },
        _finetune,
        lambda run: [run.student(""), run.checkpoints, run.logs("finetune")],
    ),
    Step(
        EvaluateResult,
        ("finetune",),
        lambda r: {"evaluate": evaluate.answering(r.evaluate)},
        _evaluate,
        lambda run: [run.evaluations(""), run.lm_eval("")],
    ),
)
STEP_NAMES: tuple[str, ...] = (*(step.name for step in STEPS), "report")
