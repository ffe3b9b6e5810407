"""What a run will do, before it does anything: steps, responses, and their need."""

import os
from dataclasses import dataclass

from persyn_ray.config import Recipe, StepResources
from persyn_ray.layout import run_of
from persyn_ray.pipeline.loading import count_splits, read_prompts
from persyn_ray.pipeline.runner import planned_steps, require_no_drift
from persyn_ray.pipeline.steps import assigned_methods, collected_splits


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

    rows: tuple[PlanRow, ...]
    num_prompts: dict[str, int]
    responses_collect: int
    responses_routed: int
    responses_generate_then_select: int
    cpus: int


def plan_run(recipe: Recipe, overrides: tuple[str, ...] = ()) -> Plan:
    """Plan without touching Ray or a model; reads the prompts unless the run holds them already.

    Raises:
        DriftError: the run folder was made with other settings.
    """
    run = run_of(recipe)
    steps = planned_steps(recipe, run)
    require_no_drift(steps, overrides, None)
    record = steps[0].record if steps[0].is_done else None
    splits = record.counts["splits"] if record else count_splits(read_prompts(recipe).table)
    num_teachers, methods = len(recipe.pool), len(assigned_methods(recipe))
    collected = sum(splits[split] for split in collected_splits(recipe)) * num_teachers
    open_prompts = 0 if "routed" in collected_splits(recipe) else splits["routed"]
    trained_on = splits["parallel"] + splits["routed"]
    rows = tuple(
        PlanRow(p.step.name, "done" if p.is_done else "to do", _needs(recipe, p.step.name))
        for p in steps
    )
    return Plan(
        rows,
        splits,
        collected,
        open_prompts * min(methods, num_teachers),
        trained_on * num_teachers,
        os.cpu_count() or 1,
    )


def _needs(recipe: Recipe, step: str) -> str:
    resources = recipe.resources
    if step not in type(resources).model_fields:
        return "this process"
    part = getattr(resources, step)
    actors = isinstance(part, StepResources)
    count = part.actors if actors else part.workers
    gpus = f" + {part.gpus:g} GPU" if part.gpus else ""
    word = ("actor" if actors else "worker") + ("s" if count > 1 else "")
    return f"{count} {word} x {part.cpus:g} CPU{gpus}"
