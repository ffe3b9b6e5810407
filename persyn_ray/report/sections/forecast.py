"""Section forecast: forecast against actual, step by step, as cells of text.

In report.json:

    forecast      steps {collect or synthesize: {prompts, tokens, seconds, dollars (each {forecast,
                  actual}), at_most, teachers {teacher: {the same five, source, slots, running and
                  kv_use (each {forecast, actual})}}}}
                  (at_most: tokens were forecast by their limit; slots: responses that one engine
                  works on at once, running: as many of them as were filled on average, kv_use:
                  share of the KV cache in use; actual figures by the engine's own metrics)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from persyn_ray.report.numbers import NOTHING, compact, number, percent, rate, seconds

TIMES = "\N{MULTIPLICATION SIGN}"
AT_MOST = "\N{LESS-THAN OR EQUAL TO}\N{NO-BREAK SPACE}"
MEASURES = ("prompts", "tokens", "seconds", "dollars", "running", "kv_use")
TITLES = {"seconds": "time", "running": "running at once", "kv_use": "KV cache"}
BOUNDED = ("tokens", "seconds", "dollars")  # measures that the token limit bounds
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
    slots: int | None
    running: ComparedAccuracy | None
    kv_use: ComparedAccuracy | None


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

    @property
    def titles(self) -> tuple[str, ...]:
        """The measures as columns are headed."""
        return tuple(TITLES.get(measure, measure) for measure in self.measures)


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
    bound = AT_MOST if one["at_most"] and measure in BOUNDED and pair["forecast"] else ""
    return Cell(show(pair["actual"]), f"of {bound}{show(pair['forecast'])}{_ratio(pair)}")


def _shown(measure: str) -> Callable[[float | None], str]:
    shown = {"seconds": seconds, "dollars": dollars, "running": rate, "kv_use": percent}
    return shown.get(measure, compact)


def dollars(value: float | None) -> str:
    """Money with cents."""
    return NOTHING if value is None else f"${value:,.2f}"


def _ratio(pair: ComparedAccuracy) -> str:
    if pair["actual"] is None or not pair["forecast"]:
        return ""
    return f", {number(pair['actual'] / pair['forecast'])}{TIMES}"


def forecast_sentences(forecast: ForecastSummary | None) -> list[str]:
    """How near tokens and engines came, over all steps that left a forecast."""
    steps = (forecast or {"steps": {}})["steps"]
    return [*_token_sentences(list(steps.values())), *_engine_sentences(steps)]


def _engine_sentences(steps: dict[str, StepForecast]) -> Iterator[str]:
    """How full engines were whose own metrics were read, beside what was forecast of them."""
    for name, step in steps.items():
        measured = [
            (teacher["slots"], teacher["running"])
            for teacher in step["teachers"].values()
            if teacher["slots"] and _is_measured(teacher["running"])
        ]
        if measured:
            slots = sum(slots for slots, _ in measured)
            actual, made = (
                sum(pair[kind] or 0.0 for _, pair in measured if pair)
                for kind in ("actual", "forecast")
            )
            yield (
                f"In {name}, engines filled {percent(actual / slots)} of their slots on average by "
                f"their own metrics, where {percent(made / slots)} were forecast."
            )


def _is_measured(pair: ComparedAccuracy | None) -> bool:
    return pair is not None and pair["forecast"] is not None and pair["actual"] is not None


def _token_sentences(steps: Sequence[StepForecast]) -> list[str]:
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
