"""Forecast of a step, stored before it runs and compared with the actual figures after.

`persyn plan` shows it; `persyn run` leaves it as records/forecast-STEP.json when the step begins,
where the scheduler finds it; the report sets it beside the step's record. Like the record, it
covers what was not stored yet when the step began.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.forecasts import expected_tokens
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, reckon
from persyn_ray.pipeline.plan.forecasts.known import (
    ForecastSettings,
    Known,
    gather_known,
    read_forecast,
)
from persyn_ray.pipeline.plan.placement import place_known
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.recipe.teachers import PriceConfig, TeacherConfig
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record
from persyn_ray.storage.results import CollectResult, SynthesizeResult, result_of

FORECAST_STEPS = ("collect", "synthesize")
DONE_BEFORE = {"collect": ("prompts",), "synthesize": ("prompts", "collect", "rewards", "route")}
Figures = dict[str, Any]


def forecast_step(known: Known, step: str) -> Forecast:
    """What a step still has to do."""
    if step == "collect":
        return reckon(
            known, expected_tokens.open_collect(known.compare, known.splits, known.stored)
        )
    asked = expected_tokens.open_synthesize(
        known.compare, known.run, known.splits, known.stored, known.share, known.is_routed
    )
    return reckon(known, asked, is_later=True)


def forecast_everything(known: Known) -> Forecast:
    """Generate-then-select: every teacher answers every prompt that is trained on."""
    num_prompts = float(known.splits["parallel"] + known.splits["routed"])
    return reckon(known, dict.fromkeys(known.stored, num_prompts))


def forecast_anew(known: Known) -> tuple[Forecast, Forecast]:
    """Route-then-generate from the start, whatever is stored: its two steps."""
    compare, splits = known.compare, known.splits
    nothing = {name: expected_tokens.Stored() for name in known.stored}
    collect = expected_tokens.open_collect(compare, splits, nothing)
    later = expected_tokens.open_synthesize(compare, known.run, splits, nothing, known.share, False)
    return reckon(known, collect), reckon(known, later, is_later=True)


def write_forecast(settings: ForecastSettings, run: RunLayout, step: str) -> None:
    """Leave the forecast of a step that begins; nothing is refused, what is not known is null."""
    placed, _ = place_known(settings.deployment)
    counted = Counted(_stored_splits(run), expected_tokens.stored_prompt_tokens(run))
    known = gather_known(settings, run, counted, placed, DONE_BEFORE[step])
    try:
        made = forecast_step(known, step)
    except ConfigError:  # `hardware` need not be the cluster that the run has
        made = forecast_step(_without_gpus(known), step)
    teachers = {name: asdict(one) for name, one in made.teachers.items()}
    run.records.write_json(f"forecast-{step}.json", {"teachers": teachers, "seconds": made.seconds})


def _stored_splits(run: RunLayout) -> dict[str, int]:
    """Prompts of each split, counted in the run's tables."""
    return {
        split: sum(run.prompts.num_rows(shard) for shard in shards_of(run, split))
        for split in expected_tokens.SPLITS
    }


def _without_gpus(known: Known) -> Known:
    hardware = known.hardware.model_copy(update={"nodes": 0})
    deployment = replace(known.settings.deployment, hardware=hardware)
    return replace(known, settings=replace(known.settings, deployment=deployment))


def forecast_against_actual(
    teachers: Sequence[TeacherConfig],
    gpu_hour_dollars: float | None,
    run: RunLayout,
    records: dict[str, Record | None],
) -> Figures | None:
    """Per step and teacher, what was forecast and what it took; None if nothing was forecast."""
    steps: Figures = {}
    for step in FORECAST_STEPS:
        made, record = read_forecast(run, step), records.get(step)
        if made and record is not None:
            steps[step] = _compared(teachers, gpu_hour_dollars, made, record)
    return {"steps": steps} if steps else None


def _compared(
    teachers: Sequence[TeacherConfig],
    gpu_hour_dollars: float | None,
    made: Figures,
    record: Record,
) -> Figures:
    result = result_of(record, CollectResult if record.step == "collect" else SynthesizeResult)
    counts = {name: done.model_dump() for name, done in result.teachers.items()}
    of = made["teachers"]
    compared = {
        name: _teacher(teacher.price, gpu_hour_dollars, of.get(name) or {}, counts.get(name) or {})
        for teacher in teachers
        if of.get(name := teacher.name, {}).get("prompts") or name in counts
    }
    asked = of.values()
    return {
        "prompts": _pair(sum(one["prompts"] for one in asked), result.rows),
        "tokens": _pair(sum(one["tokens"] for one in asked), result.tokens),
        "seconds": _pair(made["seconds"], record.seconds),
        "dollars": _sum([one["dollars"] for one in compared.values()]),
        "at_most": any(one["at_most"] for one in compared.values()),
        "teachers": compared,
    }


def _teacher(
    price: PriceConfig | None, gpu_hour_dollars: float | None, made: Figures, took: Figures
) -> Figures:
    """One teacher's forecast beside what it took; either is empty where there is none."""
    dollars = _actual_dollars(price, gpu_hour_dollars, made, took)
    return {
        "at_most": bool(made.get("at_most")),
        "source": made.get("source"),
        "prompts": _pair(made.get("prompts"), took.get("rows")),
        "tokens": _pair(made.get("tokens"), took.get("tokens")),
        "seconds": _pair(made.get("seconds"), took.get("seconds")),
        "dollars": _pair(made.get("dollars"), dollars),
        **_engine_use(made.get("engine") or {}, took.get("engine") or {}),
    }


def _engine_use(made: Figures, took: Figures) -> Figures:
    """How full a teacher's engines were to be, and were by their own metrics."""
    return {
        "slots": made.get("slots"),
        "running": _pair(made.get("running_mean"), took.get("running_mean")),
        "kv_use": _pair(None, took.get("kv_use_mean")),
    }


def _actual_dollars(
    price: PriceConfig | None, gpu_hour_dollars: float | None, made: Figures, took: Figures
) -> float | None:
    """By the price of what was written, or by the GPUs of the forecast for the time it took."""
    if price is not None and took.get("rows") is not None and made.get("prompts"):
        prompt_tokens = made["prompt_tokens"] / made["prompts"] * took["rows"]
        return (prompt_tokens * price.prompt + took["tokens"] * price.response) / 1e6
    if price is None and made.get("gpu_seconds") and took.get("seconds") is not None:
        held = made["gpu_seconds"] / made["seconds"] * took["seconds"]
        return None if gpu_hour_dollars is None else held / 3600 * gpu_hour_dollars
    return None


def _pair(forecast: float | None, actual: float | None) -> Figures:
    return {"forecast": forecast, "actual": actual}


def _sum(pairs: list[Figures]) -> Figures:
    """Both sums over the pairs that are known on both sides."""
    known = [pair for pair in pairs if None not in pair.values()]
    return {kind: sum(pair[kind] for pair in known) if known else None for kind in _pair(0, 0)}
