"""Warns of engines that a recipe leaves empty: forecasts of steps in, what helps and where out."""

from collections.abc import Iterator, Mapping
from itertools import starmap

from persyn_ray.pipeline.plan.forecasts.engines import (
    CACHE,
    RATE,
    REQUESTS,
    SEQUENCES,
    EngineForecast,
)
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, TeacherForecast
from persyn_ray.pipeline.plan.placement import Placed, layout_text
from persyn_ray.report.numbers import count, percent

EMPTY = 0.5  # engines that are filled less than this much are worth a word
FILLS = 4  # rows in slots that an engine should get, so that its tail is the lesser part
SMALL_CACHE = 0.5  # and a KV cache that holds less than this much of `max_num_seqs`


def empty_engines(steps: Mapping[str, Forecast], placed: Mapping[str, Placed]) -> Iterator[str]:
    """One warning for each step whose engines stay empty, for small caches and slow endpoints."""
    for step, forecast in steps.items():
        empty = {
            name: teacher
            for name, teacher in forecast.teachers.items()
            if teacher.engine is not None and _is_empty(teacher.engine)
        }
        if empty:
            yield _too_few_rows(step, empty, placed)
    for name, one in placed.items():
        engines = (step.teachers[name].engine for step in steps.values())
        engine = next((engine for engine in engines if engine is not None), None)
        if engine is not None and _has_small_cache(engine, one):
            yield _small_cache(name, engine, one)
    for name, engine in _held_back(steps):
        yield (
            f"Teacher {name} is limited by its endpoint's rate: about {engine.slots} requests were "
            "under way at once in collect, whatever resources.max_requests allows. A higher rate "
            "limit of the account helps, or more replicas behind the endpoint."
        )


def _is_empty(engine: EngineForecast) -> bool:
    """Whether an engine of ours stays empty; one behind an endpoint is not ours to fill."""
    return engine.filled < EMPTY and engine.limited_by not in (REQUESTS, RATE)


def _too_few_rows(
    step: str, empty: Mapping[str, TeacherForecast], placed: Mapping[str, Placed]
) -> str:
    prompts = "prompts.num_parallel" if step == "collect" else "prompts.limit, or fewer teachers"
    ways = [way for name, one in empty.items() for way in _less(name, one, placed.get(name))]
    return (
        f"Engines stay empty in {step}: {'; '.join(starmap(_few, empty.items()))}. What helps: "
        f"{'; '.join([f'more prompts ({prompts})', *ways])}."
    )


def _few(name: str, teacher: TeacherForecast) -> str:
    """How few rows a teacher's engines get, and what this leaves of them."""
    engine = teacher.engine
    assert engine is not None
    each = f" for each of {engine.engines} engines" if engine.engines > 1 else ""
    return (
        f"{name} ({count(engine.rows)} prompts{each} with {engine.slots} slots: "
        f"{percent(engine.filled)} filled, {percent(engine.tail_share)} of the time is tail)"
    )


def _less(name: str, teacher: TeacherForecast, placed: Placed | None) -> Iterator[str]:
    """Settings that give a teacher fewer engines or GPUs, so that others are free."""
    engine, smallest = teacher.engine, placed.smallest if placed is not None else None
    assert engine is not None
    fewer = max(1, int(teacher.prompts / (FILLS * engine.slots)))
    if engine.engines > fewer:
        yield f"resources.replicas: {fewer} for {name}"
    if placed is not None and smallest is not None and smallest.workers < placed.layout.workers:
        yield f"{layout_text(smallest)} for {name}, which holds it"


def _has_small_cache(engine: EngineForecast, placed: Placed) -> bool:
    return engine.limited_by == CACHE and engine.slots < SMALL_CACHE * placed.most_at_once


def _small_cache(name: str, engine: EngineForecast, placed: Placed) -> str:
    wider = 2 * placed.layout.tensor
    return (
        f"Teacher {name} has KV cache for {engine.slots} responses at once, of "
        f"{placed.most_at_once} ({SEQUENCES}): resources.tensor_parallel: {wider}, a smaller "
        "sampling.max_tokens, or kv_cache_dtype: fp8 (engine.arguments) makes room for more."
    )


def _held_back(steps: Mapping[str, Forecast]) -> Iterator[tuple[str, EngineForecast]]:
    for forecast in steps.values():
        for name, teacher in forecast.teachers.items():
            if teacher.engine is not None and teacher.engine.limited_by == RATE:
                yield name, teacher.engine
