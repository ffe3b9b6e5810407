"""Plans a run: steps, placement, schedule, tokens, time and cost, before anything starts.

Refuses teachers and a fine-tuning that cannot fit the recipe's hardware. Touches neither Ray nor
the network nor a model's weights; reads the prompts unless the run holds them already.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.choices import assigned_methods, collected_splits, has_own_pool
from persyn_ray.pipeline.integrity.ownership import inputs_of, require_own
from persyn_ray.pipeline.plan.engine_warnings import empty_engines
from persyn_ray.pipeline.plan.evaluation_warnings import cut_answers
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length
from persyn_ray.pipeline.plan.forecasts.known import Known, forecast_settings, gather_known
from persyn_ray.pipeline.plan.forecasts.router import RouterForecast, forecast_router, told
from persyn_ray.pipeline.plan.forecasts.score import Reader, ScorePass, forecast_score
from persyn_ray.pipeline.plan.forecasts.steps import (
    FORECAST_STEPS,
    forecast_anew,
    forecast_everything,
    forecast_step,
)
from persyn_ray.pipeline.plan.forecasts.training import TrainingForecast, forecast_training
from persyn_ray.pipeline.plan.placement import Placed, gpu_teachers, place_teachers, stands_on_gpus
from persyn_ray.pipeline.plan.prompt_counts import Counted, count_prompts
from persyn_ray.pipeline.runner import Planned, planned_steps, require_no_drift
from persyn_ray.recipe.base import ModelConfig, StudentConfig
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.engines import OpenAIEngineConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import (
    HardwareConfig,
    ResourcesConfig,
    StepResourcesConfig,
    TrainResourcesConfig,
)
from persyn_ray.recipe.scoring import RewardModelConfig, ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.numbers import compact
from persyn_ray.storage.layout import parts_of, run_of
from persyn_ray.storage.ledger import Spent, accounts
from persyn_ray.storage.own_parts import own_parts

FEW_AT_ONCE = 8  # responses at once below which an engine is badly used
CLUSTER = re.compile(r"(\d+)x(\d+)x(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class PlanRow:
    """One step of the plan."""

    step: str
    state: str
    """done, or to do."""
    needs: str
    """Actors or workers, each with its CPUs and GPUs."""


@dataclass(frozen=True)
class Plan:
    """The whole plan. Responses are counted in prompts x teachers."""

    recipe: Recipe
    rows: tuple[PlanRow, ...]
    num_prompts: dict[str, int]
    responses_collect: int
    responses_routed: int
    responses_generate_then_select: int
    cpus: int
    placed: dict[str, Placed]
    """Teachers on GPUs; empty without hardware."""
    lengths: dict[str, Length]
    steps: dict[str, Forecast]
    """What collect and synthesize still have to do."""
    anew: tuple[Forecast, Forecast]
    """Both steps from the start, whatever is stored."""
    everything: Forecast
    """Generate-then-select over the same prompts."""
    score: tuple[ScorePass, ...]
    """What models read in step score; empty once it is done."""
    router: RouterForecast | None
    """What step router fits; None once it is done."""
    training: TrainingForecast | None
    """What step finetune takes; None once it is done, or where the student's size is not known."""
    share_source: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def on_cluster(recipe: Recipe, cluster: str) -> Recipe:
    """The recipe on another cluster, given as NODESxGPUSxGIB.

    Raises:
        ConfigError: the text is no cluster.
    """
    match = CLUSTER.fullmatch(cluster.strip().lower())
    if match is None or not int(match[1]) or not int(match[2]) or not float(match[3]):
        raise ConfigError(
            f"--cluster {cluster!r} must read NODESxGPUSxGIB, such as 2x8x80: two nodes of eight "
            "GPUs with 80 GiB each."
        )
    sizes = {
        "nodes": int(match[1]),
        "gpus_per_node": int(match[2]),
        "gpu_memory_gib": float(match[3]),
    }
    return recipe.model_copy(update={"hardware": recipe.hardware.model_copy(update=sizes)})


def plan_run(recipe: Recipe, overrides: tuple[str, ...] = ()) -> Plan:
    """Plan without touching Ray or a model.

    Raises:
        DriftError: the run folder was made with other settings.
        ConfigError: teachers or the student's training do not fit, a size that is needed is not
            known, or the run folder is somebody else's.
    """
    run = run_of(recipe)
    require_own(run, inputs_of(recipe))
    steps = planned_steps(recipe, run)
    require_no_drift(steps, overrides, None)
    done = [planned.step.name for planned in steps if planned.is_done]
    counted = count_prompts(recipe, run, steps[0].record if "prompts" in done else None)
    settings = forecast_settings(recipe)
    known = gather_known(settings, run, counted, place_teachers(settings.deployment), done)
    anew = forecast_anew(known)
    ahead = {step: forecast_step(known, step) for step in FORECAST_STEPS}
    scorer = recipe.student.model if recipe.measures_learnability else None
    readers = tuple(_readers(scorer, recipe.scoring, recipe.resources))
    is_tuned = "finetune" in done
    training = None if is_tuned else forecast_training(recipe, counted.splits, known.lengths)
    parallel = counted.splits["parallel"]
    router = None if "router" in done else forecast_router(recipe.router, parallel)
    return Plan(
        recipe=recipe,
        rows=_rows(steps, recipe.teachers, recipe.resources, recipe.measures_learnability),
        num_prompts=counted.splits,
        **_responses(recipe.compare, len(recipe.pool), counted.splits),
        cpus=os.cpu_count() or 1,
        placed=known.placed,
        lengths=known.lengths,
        steps=ahead,
        anew=anew,
        everything=forecast_everything(known),
        score=() if "score" in done else forecast_score(anew[0], readers, recipe.hardware),
        router=router,
        training=training,
        share_source=known.share.source,
        notes=_notes(recipe, counted, router, training is not None or is_tuned),
        warnings=(
            *_over_budget(known, ahead, accounts(run.ledger)),
            *_narrow(known),
            *empty_engines(ahead, known.placed),
            *cut_answers(recipe.teachers, recipe.finetune, recipe.evaluate, recipe.scoring),
        ),
    )


def _rows(
    steps: Sequence[Planned],
    teachers: Sequence[TeacherConfig],
    resources: ResourcesConfig,
    measures_learnability: bool,
) -> tuple[PlanRow, ...]:
    """Each step, whether it is done, and what it takes."""
    needs = partial(_needs, teachers, resources, measures_learnability)
    return tuple(
        PlanRow(p.step.name, "done" if p.is_done else "to do", needs(p.step.name)) for p in steps
    )


def _notes(
    recipe: Recipe, counted: Counted, router: RouterForecast | None, training_is_known: bool
) -> tuple[str, ...]:
    """What one should know beside the figures."""
    without_size = _without_size(recipe.student, recipe.hardware, recipe.resources.finetune)
    notes = (
        counted.note,
        told(router) if router else None,
        _for_comparison(recipe.compare, len(recipe.pool), counted.splits),
        _without_hardware(recipe.teachers, recipe.hardware),
        None if training_is_known else without_size,
        *(
            f"Code of your own: {part.said}"
            for part in own_parts(recipe.teachers, recipe.scoring, recipe.evaluate.check)
        ),
    )
    return tuple(filter(None, notes))


def _readers(
    student: ModelConfig | None, scoring: ScoringConfig, resources: ResourcesConfig
) -> Iterator[Reader]:
    """What scores: the student, if learnability is measured, and the reward models."""
    if student is not None:
        yield Reader(student, resources.score, shares_prompts=True)
    for part in parts_of(scoring):
        if isinstance(part.quality, RewardModelConfig):
            yield Reader(part.quality.model, resources.quality, shares_prompts=False)


def _responses(compare: CompareConfig, num_teachers: int, splits: dict[str, int]) -> dict[str, int]:
    methods = len(assigned_methods(compare))
    open_prompts = 0 if "routed" in collected_splits(compare) else splits["routed"]
    return {
        "responses_collect": sum(splits[s] for s in collected_splits(compare)) * num_teachers,
        "responses_routed": open_prompts * min(methods, num_teachers),
        "responses_generate_then_select": (splits["parallel"] + splits["routed"]) * num_teachers,
    }


def _for_comparison(
    compare: CompareConfig, num_teachers: int, splits: dict[str, int]
) -> str | None:
    """What the references ask of all teachers, which route-then-generate alone would not."""
    extra = [split for split in collected_splits(compare) if split != "parallel"]
    number = sum(splits[split] for split in extra) * num_teachers
    if not number:
        return None
    return (
        f"For the comparison (`compare`) all teachers answer the {' and '.join(extra)} prompts "
        f"too: {number:,} of the responses. Route-then-generate alone would not ask for them."
    )


def _without_hardware(teachers: Sequence[TeacherConfig], hardware: HardwareConfig) -> str | None:
    number = len(gpu_teachers(teachers))
    if not number or hardware.nodes:
        return None
    return (
        f"{number} teacher{'s run' if number > 1 else ' runs'} on GPUs, and the recipe names none: "
        "give --cluster NODESxGPUSxGIB (such as 1x8x80) or `hardware` for memory, waves, time and "
        "money."
    )


def _without_size(
    student: StudentConfig, hardware: HardwareConfig, resources: TrainResourcesConfig
) -> str | None:
    """What is missing for a forecast of fine-tuning on GPUs."""
    if not hardware.nodes or not resources.gpus:
        return None
    return (
        f"What {student.name} weighs is not known on this machine: give "
        "resources.finetune.size for memory, steps and hours of its fine-tuning, and for whether "
        "adapters are trained (finetune.lora)."
    )


def _over_budget(
    known: Known, ahead: dict[str, Forecast], before: dict[str, Spent]
) -> Iterator[str]:
    """Budgets that what is still to do would go over, with what the ledger says is spent."""
    for teacher in known.teachers:
        budget = teacher.budget
        parts = [part.teachers[teacher.name] for part in ahead.values()]
        if budget is None or not any(part.prompts for part in parts):
            continue
        spent = before.get(f"teachers/{teacher.name}", Spent())
        tokens = sum(part.tokens + part.prompt_tokens for part in parts)
        dollars = sum(part.dollars or 0.0 for part in parts)
        bound = "at most " if any(part.at_most for part in parts) else ""
        start = f"Teacher {teacher.name} would take {bound}"
        end = "prompts past it are not asked."
        if budget.tokens is not None and spent.tokens + tokens > budget.tokens:
            had = f" beside {compact(spent.tokens)} spent" if spent.tokens else ""
            budgeted = compact(budget.tokens)
            yield f"{start}{compact(tokens)} tokens{had}, over its budget of {budgeted}: {end}"
        if budget.dollars is not None and spent.dollars + dollars > budget.dollars:
            had = f" beside ${spent.dollars:,.2f} spent" if spent.dollars else ""
            yield f"{start}${dollars:,.2f}{had}, over its budget of ${budget.dollars:,.2f}: {end}"


def _narrow(known: Known) -> Iterator[str]:
    """Teachers that fit, but for hardly more than one response at once."""
    for name, placed in known.placed.items():
        length = known.lengths[name]
        held = placed.at_once(length.prompt + length.response)
        if held < min(FEW_AT_ONCE, placed.most_at_once):
            yield (
                f"Teacher {name} has memory for {held} long response{'s' if held > 1 else ''} at "
                "once: more GPUs (resources.tensor_parallel) would be used better."
            )


def _needs(
    teachers: Sequence[TeacherConfig],
    resources: ResourcesConfig,
    measures_learnability: bool,
    step: str,
) -> str:
    """Actors or workers of a step, each with its CPUs and GPUs."""
    if step == "score" and not measures_learnability:
        return f"{_pool_text(resources.score)}, without the student: alpha is 0"
    if step not in type(resources).model_fields:
        return "this process"
    if step in FORECAST_STEPS and any(has_own_pool(teacher) for teacher in teachers):
        return " + ".join(_pools(teachers, getattr(resources, step)))
    return _pool_text(getattr(resources, step))


def _pools(teachers: Sequence[TeacherConfig], shared: StepResourcesConfig) -> Iterator[str]:
    """The teachers by where they run; those without a pool of their own run in the shared one."""
    own = [teacher for teacher in teachers if has_own_pool(teacher)]
    counts = {
        "on GPUs": sum(stands_on_gpus(teacher) for teacher in own),
        "at endpoints": sum(isinstance(teacher.engine, OpenAIEngineConfig) for teacher in own),
    }
    counts["on CPUs"] = len(own) - sum(counts.values())
    first = True
    for where, number in counts.items():
        if number:
            word = f"teacher{'s' if number > 1 else ''} " if first else ""
            first = False
            yield f"{number} {word}{where}"
    if len(own) < len(teachers):
        yield _pool_text(shared)


def _pool_text(part: StepResourcesConfig | TrainResourcesConfig) -> str:
    gpus = f" + {part.gpus:g} GPU" if part.gpus else ""
    word = "actor" if isinstance(part, StepResourcesConfig) else "worker"
    fewest = f"{part.fewest} to " if part.fewest < part.most else ""
    return f"{fewest}{part.most} {word}{'s' * (part.most > 1)} x {part.cpus:g} CPU{gpus}"
