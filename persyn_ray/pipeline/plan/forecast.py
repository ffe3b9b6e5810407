"""Forecast of a step, stored before it runs and compared with the actual figures after.

`persyn plan` shows it; `persyn run` leaves it as records/forecast-STEP.json when the step begins,
where the scheduler finds it; the report sets it beside the step's record. Like the record, it
covers what was not stored yet when the step began.
"""

from dataclasses import asdict
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan import expected_tokens
from persyn_ray.pipeline.plan.estimate import Forecast, Known, gather_known, read_forecast, reckon
from persyn_ray.pipeline.plan.placement import place_known
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import HardwareConfig
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record
from persyn_ray.storage.results import CollectResult, SynthesizeResult, result_of

FORECAST_STEPS = ("collect", "synthesize")
BEFORE_SYNTHESIZE = ("prompts", "collect", "rewards", "route")
Figures = dict[str, Any]


def forecast_step(known: Known, step: str) -> Forecast:
    """What a step still has to do."""
    if step == "collect":
        return reckon(known, expected_tokens.open_collect(known.recipe, known.splits, known.stored))
    asked = expected_tokens.open_synthesize(
        known.recipe, known.run, known.splits, known.stored, known.share, known.is_routed
    )
    return reckon(known, asked, is_later=True)


def forecast_everything(known: Known) -> Forecast:
    """Generate-then-select: every teacher answers every prompt that is trained on."""
    num_prompts = float(known.splits["parallel"] + known.splits["routed"])
    return reckon(known, dict.fromkeys(known.recipe.pool.names, num_prompts))


def forecast_anew(known: Known) -> tuple[Forecast, Forecast]:
    """Route-then-generate from the start, whatever is stored: its two steps."""
    recipe, splits = known.recipe, known.splits
    nothing = {name: expected_tokens.Stored() for name in known.stored}
    collect = expected_tokens.open_collect(recipe, splits, nothing)
    later = expected_tokens.open_synthesize(recipe, known.run, splits, nothing, known.share, False)
    return reckon(known, collect), reckon(known, later, is_later=True)


def write_forecast(recipe: Recipe, run: RunLayout, step: str) -> None:
    """Leave the forecast of a step that begins; nothing is refused, what is not known is null."""
    try:
        made = forecast_step(_known_at(recipe, run, step), step)
    except ConfigError:  # `hardware` need not be the cluster that the run has
        made = forecast_step(_known_at(_without_gpus(recipe), run, step), step)
    teachers = {name: asdict(one) for name, one in made.teachers.items()}
    run.records.write_json(f"forecast-{step}.json", {"teachers": teachers, "seconds": made.seconds})


def _known_at(recipe: Recipe, run: RunLayout, step: str) -> Known:
    """What a step that begins can know."""
    splits = {
        split: sum(run.prompts.num_rows(shard) for shard in shards_of(run, split))
        for split in expected_tokens.SPLITS
    }
    done = BEFORE_SYNTHESIZE if step == "synthesize" else ("prompts",)
    placed, _ = place_known(recipe)
    return gather_known(
        recipe, run, splits, expected_tokens.stored_prompt_tokens(run), placed, done
    )


def _without_gpus(recipe: Recipe) -> Recipe:
    hardware: HardwareConfig = recipe.hardware.model_copy(update={"nodes": 0})
    return recipe.model_copy(update={"hardware": hardware})


def forecast_against_actual(
    recipe: Recipe, run: RunLayout, records: dict[str, Record | None]
) -> Figures | None:
    """Per step and teacher, what was forecast and what it took; None if nothing was forecast."""
    steps: Figures = {}
    for step in FORECAST_STEPS:
        made, record = read_forecast(run, step), records.get(step)
        if made and record is not None:
            steps[step] = _compared(recipe, made, record)
    return {"steps": steps} if steps else None


def _compared(recipe: Recipe, made: Figures, record: Record) -> Figures:
    result = result_of(record, CollectResult if record.step == "collect" else SynthesizeResult)
    counts = {name: done.model_dump() for name, done in result.teachers.items()}
    teachers = {
        name: _teacher(recipe, name, made["teachers"].get(name), counts.get(name))
        for name in recipe.pool.names
        if made["teachers"].get(name, {}).get("prompts") or name in counts
    }
    asked = made["teachers"].values()
    return {
        "prompts": _pair(sum(one["prompts"] for one in asked), result.rows),
        "tokens": _pair(sum(one["tokens"] for one in asked), result.tokens),
        "seconds": _pair(made["seconds"], record.seconds),
        "dollars": _sum([one["dollars"] for one in teachers.values()]),
        "at_most": any(one["at_most"] for one in teachers.values()),
        "teachers": teachers,
    }


def _teacher(recipe: Recipe, name: str, made: Figures | None, took: Figures | None) -> Figures:
    made, took = made or {}, took or {}
    return {
        "at_most": bool(made.get("at_most")),
        "source": made.get("source"),
        "prompts": _pair(made.get("prompts"), took.get("rows")),
        "tokens": _pair(made.get("tokens"), took.get("tokens")),
        "seconds": _pair(made.get("seconds"), took.get("seconds")),
        "dollars": _pair(made.get("dollars"), _actual_dollars(recipe, name, made, took)),
    }


def _actual_dollars(recipe: Recipe, name: str, made: Figures, took: Figures) -> float | None:
    """By the price of what was written, or by the GPUs of the forecast for the time it took."""
    price = recipe.teachers[recipe.pool.index(name)].price
    if price is not None and took.get("rows") is not None and made.get("prompts"):
        prompt_tokens = made["prompt_tokens"] / made["prompts"] * took["rows"]
        return (prompt_tokens * price.prompt + took["tokens"] * price.response) / 1e6
    if price is None and made.get("gpu_seconds") and took.get("seconds") is not None:
        rate = recipe.hardware.gpu_hour_dollars
        held = made["gpu_seconds"] / made["seconds"] * took["seconds"]
        return None if rate is None else held / 3600 * rate
    return None


def _pair(forecast: float | None, actual: float | None) -> Figures:
    return {"forecast": forecast, "actual": actual}


def _sum(pairs: list[Figures]) -> Figures:
    """Both sums over the pairs that are known on both sides."""
    known = [pair for pair in pairs if None not in pair.values()]
    return {kind: sum(pair[kind] for pair in known) if known else None for kind in _pair(0, 0)}
