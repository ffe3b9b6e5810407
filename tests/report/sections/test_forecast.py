"""Forecast against actual: what is shown, what is left out, and what the summary says of it."""

from typing import Any

import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.html import render
from persyn_ray.report.sections.forecast import forecast_sentences, forecast_tables

PLAIN = str.maketrans({"\N{NO-BREAK SPACE}": " ", "\N{EN DASH}": "-"})


def cells(content: dict[str, Any], row: str) -> dict[str, tuple[str, str]]:
    """Actual figure and the line below it, by measure."""
    (table,) = forecast_tables(complete(content)["forecast"])
    found = dict(table.rows)[row]
    return {
        measure: (cell.actual.translate(PLAIN), cell.below.translate(PLAIN))
        for measure, cell in zip(table.measures, found, strict=True)
    }


def test_every_measure_stands_beside_its_forecast(content: dict[str, Any]) -> None:
    shown = cells(content, "strong-generalist")
    assert shown == {
        "prompts": ("2,500", "of 2,500, 1.00×"),
        "tokens": ("165 k", "of ≤ 240 k, 0.69×"),
        "seconds": ("19 s", "of ≤ 48 s, 0.40×"),
        "dollars": ("$0.12", "of ≤ $0.30, 0.40×"),
        "running": ("171", "of 180, 0.95×"),
        "kv_use": ("41 %", ""),
    }
    assert cells(content, "all")["running"] == ("-", "")
    assert cells(content, "all")["tokens"] == ("341 k", "of ≤ 1.2 M, 0.28×")


def test_an_expectation_is_no_bound(content: dict[str, Any]) -> None:
    content["forecast"]["steps"]["collect"]["teachers"]["strong-generalist"]["at_most"] = False
    assert cells(content, "strong-generalist")["tokens"][1] == "of 240 k, 0.69×"


def test_what_nobody_knows_is_left_out_and_what_one_lacks_is_a_dash(
    content: dict[str, Any],
) -> None:
    step = content["forecast"]["steps"]["collect"]
    nothing = {"forecast": None, "actual": None}
    for one in (step, *step["teachers"].values()):
        one["dollars"] = nothing
    step["teachers"]["add-specialist"]["seconds"] = {"forecast": 5.0, "actual": None}
    step["teachers"]["max-specialist"]["seconds"] = {"forecast": None, "actual": 7.0}
    assert "dollars" not in cells(content, "all")
    assert cells(content, "add-specialist")["seconds"] == ("-", "of ≤ 5.0 s")
    assert cells(content, "max-specialist")["seconds"] == ("7.0 s", "")


def test_the_summary_says_how_near_the_tokens_came(content: dict[str, Any]) -> None:
    sentence, engines = forecast_sentences(complete(content)["forecast"])
    assert (
        "In collect, engines filled 67 % of their slots on average by their own metrics, where 70 %"
        in engines.translate(PLAIN)
    )
    assert (
        "wrote 341 k tokens in this run, where at most 1.2 M were forecast (0.28×)"
        in sentence.translate(PLAIN)
    )


def test_engines_that_nobody_measured_are_not_spoken_of(content: dict[str, Any]) -> None:
    for one in content["forecast"]["steps"]["collect"]["teachers"].values():
        one |= {"running": {"forecast": 180.0, "actual": None}, "kv_use": None}
    assert len(forecast_sentences(complete(content)["forecast"])) == 1
    assert "kv_use" not in cells(content, "all")
    assert cells(content, "add-specialist")["running"] == ("-", "of 180")


@pytest.mark.parametrize("forecast", [None, {"steps": {}}])
def test_without_a_forecast_nothing_is_claimed(forecast: Any) -> None:
    report = complete({"forecast": forecast})
    assert forecast_sentences(report["forecast"]) == []
    assert forecast_tables(report["forecast"]) == []
    assert "the steps left no forecast" in render({"forecast": forecast})


def test_the_page_holds_the_table(rendered: str) -> None:
    assert 'id="forecast"' in rendered
    assert "0.69×" in rendered
