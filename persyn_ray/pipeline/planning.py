"""What a run will do, before it does anything: steps, responses, and what they need of the cluster."""

import os
from dataclasses import dataclass

from persyn_ray.config import Recipe, StepResources
from persyn_ray.layout import run_of
from persyn_ray.pipeline.runner import planned_steps, require_no_drift
from persyn_ray.pipeline.steps import assigned_methods, collected_splits
from persyn_ray.prompts import load_prompts, split_prompts
from persyn_ray.records import read_record


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
    record = read_record(run.records, "prompts")
    splits = record.counts["splits"] if record is not None else _splits(recipe)
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


def _splits(recipe: Recipe) -> dict[str, int]:
    section = recipe.prompts
    table = load_prompts(section).table
    heldout = 0 if recipe.evaluate.path is not None else section.num_heldout
    splits = split_prompts(table, section.num_parallel, heldout, section.seed)["split"].to_pylist()
    counts = {name: splits.count(name) for name in ("parallel", "heldout", "routed")}
    if recipe.evaluate.path is not None:
        path = section.model_copy(update={"path": recipe.evaluate.path, "limit": None})
        counts["heldout"] = load_prompts(path).table.num_rows
    return counts


def _needs(recipe: Recipe, step: str) -> str:
    resources = recipe.resources
    if step not in type(resources).model_fields:
        return "this process"
    part = getattr(resources, step)
    actors = isinstance(part, StepResources)
    count = part.actors if actors else part.workers
    gpus = f" + {part.gpus:g} GPU" if part.gpus else ""
    return f"{count} {'actor' if actors else 'worker'}{'s' if count > 1 else ''} x {part.cpus:g} CPU{gpus}"
