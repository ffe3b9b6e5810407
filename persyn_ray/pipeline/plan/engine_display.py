"""Shows on a terminal how full each teacher's engines will be, step by step, and why."""

from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table

from persyn_ray.pipeline.plan.forecasts.engines import (
    BATCHED,
    CACHE,
    RATE,
    REQUESTS,
    SEQUENCES,
    EngineForecast,
)
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast
from persyn_ray.report.numbers import count, percent

Engines = dict[str, EngineForecast]
WHY = {
    SEQUENCES: "the setting of vLLM",
    CACHE: "what the memory beside the weights holds",
    BATCHED: "a batch ends before another one starts",
}
AT_ENDPOINTS = (REQUESTS, RATE)
"""Limits of endpoints, whose own batches nobody here can fill."""


def engines_by_step(steps: Mapping[str, Forecast]) -> dict[str, Engines]:
    """Engines of the run with work, by teacher and step; steps with the same stand together."""
    found: dict[str, Engines] = {}
    for step, forecast in steps.items():
        engines = {
            name: one.engine
            for name, one in forecast.teachers.items()
            if one.engine is not None and one.engine.limited_by not in AT_ENDPOINTS
        }
        same = next((title for title, others in found.items() if others == engines), None)
        if same is not None:
            found[f"{same} and {step}"] = found.pop(same)
        elif engines:
            found[step] = engines
    return {title: engines for title, engines in found.items() if engines}


def engine_table(engines: Engines) -> Table:
    """A row for each teacher."""
    table = Table(header_style="bold", show_edge=False)
    table.add_column("teacher", no_wrap=True)
    for title in ("slots", "by", "engines", "rows each", "filled", "tail"):
        table.add_column(title, justify="left" if title == "by" else "right")
    for name, one in engines.items():
        figures = (count(one.engines), count(one.rows), percent(one.filled))
        table.add_row(name, count(one.slots), one.limited_by, *figures, percent(one.tail_share))
    return table


def engine_caption(engines: Iterable[EngineForecast]) -> str:
    """What the columns mean, and what the figures rest on."""
    engines = list(engines)
    lengths = "the lengths that are stored"
    if any(engine.is_assumed for engine in engines):
        lengths = (
            "lengths that are assumed to spread (lognormal, on average a fifth of the limit) until "
            "collect has measured them"
        )
    return (
        "slots: responses that one engine works on at once, and by what they are limited"
        f"{''.join(_reasons({engine.limited_by for engine in engines}))}. filled: mean share of "
        "the slots from the first response to the last. tail: the end of that time, after the last "
        "row has begun: slots fall empty, and nothing is there to fill them. Before it all are "
        f"full. By a model of the engine, with {lengths}."
    )


def _reasons(limits: set[str]) -> Iterator[str]:
    texts = [f"{limit}: {why}" for limit, why in WHY.items() if limit in limits]
    if texts:
        yield f" ({'; '.join(texts)})"
