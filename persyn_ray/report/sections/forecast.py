"""Section forecast: forecast against actual, step by step, as cells of text.

In report.json:

    forecast      steps {collect or synthesize: {prompts, tokens, seconds, dollars (each {forecast,
                  actual}), at_most, teachers {teacher: {the same five, source}}}}
                  (at_most: tokens were forecast by their limit)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from persyn_ray.report.numbers import NOTHING, compact, number, seconds

TIMES = "\N{MULTIPLICATION SIGN}"
AT_MOST = "\N{LESS-THAN OR EQUAL TO}\N{NO-BREAK SPACE}"
MEASURES = ("prompts", "tokens", "seconds", "dollars")
NOT_MEASURED = {
    "forecast": "the steps left no forecast.",
}
"""Why a part may be missing, in HTML."""


class ComparedAccuracy(TypedDict):
    forecast: float | None
    actual: float | None


class TeacherForecastSummary(TypedDict):
    prompts: ComparedAccuracy | None
    tokens: ComparedAccuracy | None
    seconds: ComparedAccuracy | None
    dollars: ComparedAccuracy | None
    at_most: bool | None
    source: str | None


class StepForecast(TypedDict):
    prompts: ComparedAccuracy | None
    tokens: ComparedAccuracy | None
    seconds: ComparedAccuracy | None
    dollars: ComparedAccuracy | None
    at_most: bool | None
    teachers: dict[str, TeacherForecastSummary]


class ForecastSummary(TypedDict):
    steps: dict[str, StepForecast]


@dataclass(frozen=True)
class Cell:
    """One measure: what it took, and below it what was forecast and the ratio of the two."""

    actual: str
    below: str


@dataclass(frozen=True)
class ForecastTable:
    """One step: a row for the whole of it, then one a teacher."""

    step: str
    measures: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def forecast_tables(forecast: ForecastSummary | None) -> list[ForecastTable]:
    """A table for each step that left a forecast; measures that nobody knows are left out."""
    return [_table(name, step) for name, step in (forecast["steps"] if forecast else {}).items()]


def _table(name: str, step: StepForecast) -> ForecastTable:
    everything: list[tuple[str, StepForecast | TeacherForecastSummary]]
    everything = [("all", step), *step["teachers"].items()]
    measures = tuple(
        measure for measure in MEASURES if any(_is_known(one.get(measure)) for _, one in everything)
    )
    rows = tuple(
        (label, tuple(_cell(one, measure) for measure in measures)) for label, one in everything
    )
    return ForecastTable(name, measures, rows)


def _is_known(pair: ComparedAccuracy | None) -> bool:
    return pair is not None and (pair["forecast"] is not None or pair["actual"] is not None)


def _cell(one: StepForecast | TeacherForecastSummary, measure: str) -> Cell:
    pair: ComparedAccuracy = one.get(measure) or {"forecast": None, "actual": None}
    show = _shown(measure)
    if pair["forecast"] is None:
        return Cell(show(pair["actual"]), "")
    bound = AT_MOST if one["at_most"] and measure != "prompts" and pair["forecast"] else ""
    return Cell(show(pair["actual"]), f"of {bound}{show(pair['forecast'])}{_ratio(pair)}")


def _shown(measure: str) -> Callable[[float | None], str]:
    return {"seconds": seconds, "dollars": dollars}.get(measure, compact)


def dollars(value: float | None) -> str:
    """Money with cents."""
    return NOTHING if value is None else f"${value:,.2f}"


def _ratio(pair: ComparedAccuracy) -> str:
    if pair["actual"] is None or not pair["forecast"]:
        return ""
    return f", {number(pair['actual'] / pair['forecast'])}{TIMES}"


def forecast_sentences(forecast: ForecastSummary | None) -> list[str]:
    """How near the tokens came, over all steps that left a forecast."""
    steps = (forecast or {"steps": {}})["steps"].values()
    pairs = [step["tokens"] for step in steps if step["tokens"] and step["tokens"]["forecast"]]
    promised = sum(pair["forecast"] or 0 for pair in pairs)
    took = sum(pair["actual"] or 0 for pair in pairs)
    if not promised or not took:
        return []
    bound = "at most " if any(step["at_most"] for step in steps) else ""
    ratio = f"{number(took / promised)}{TIMES}"
    return [
        f"The teachers wrote {compact(took)} tokens in this run, where {bound}{compact(promised)} "
        f"were forecast ({ratio})."
    ]
