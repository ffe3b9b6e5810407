"""Sections with nothing measured, or parts of it: no figure, no sentence, and never a zero."""

import re
from typing import Any

import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.html import render
from persyn_ray.report.sections.alpha import draw_alpha
from persyn_ray.report.sections.examples import example_sentences
from persyn_ray.report.sections.student import (
    draw_student,
    student_difference,
    student_sentences,
)
from persyn_ray.report.sections.timing import draw_timing
from persyn_ray.report.sections.tokens import draw_tokens, token_sentences

LOSSES = {"truncated": 0, "looped": 0, "without_response": 0, "without_teacher": 0}


def section(name: str, value: dict[str, Any]) -> Any:
    return complete({name: value})[name]


def result(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    return {"value": value, "low": low, "high": high, "num": 100}


def student(**methods: Any) -> Any:
    return section("student", {"metric": "accuracy", "methods": methods})


def test_sections_that_are_not_there_have_neither_figure_nor_sentence() -> None:
    drawn = (draw_alpha(None, None), draw_student(None), draw_timing(None), draw_tokens(None))
    assert drawn == (None, None, None, None)
    assert example_sentences(None) == student_sentences(None) == token_sentences(None) == []


@pytest.mark.parametrize("lost", ["route_then_generate", "generate_then_select"])
def test_tokens_of_one_way_alone_are_no_comparison(content: dict[str, Any], lost: str) -> None:
    tokens = content["tokens"] | {lost: None, "saving_fraction": None}
    assert draw_tokens(section("tokens", tokens)) is None
    assert token_sentences(section("tokens", tokens)) == []


@pytest.mark.parametrize(
    ("saving", "words"),
    [(0.25, "25 % fewer"), (-0.5, "50 % more"), (0.0, "no saving")],
)
def test_what_is_saved_is_told_with_its_sign(
    content: dict[str, Any], saving: float, words: str
) -> None:
    tokens = content["tokens"] | {"saving_fraction": saving, "estimated": False}
    (sentence,) = token_sentences(section("tokens", tokens))
    assert sentence.replace("\N{NO-BREAK SPACE}", " ").endswith(f"generate-then-select: {words}.")
    assert "estimated" not in sentence
    (sentence,) = token_sentences(section("tokens", tokens | {"estimated": True}))
    assert "an estimated" in sentence


def test_a_step_without_a_duration_has_no_bar() -> None:
    steps = [{"step": "collect", "seconds": 3.0, "rows": 5}, {"step": "score", "seconds": None}]
    figure = draw_timing(section("timing", {"steps": steps}))
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["collect"]
    assert draw_timing(section("timing", {"steps": steps[1:]})) is None


def test_a_step_of_no_time_at_all_can_be_drawn() -> None:
    steps = [{"step": "collect", "seconds": 0.0, "rows": 0}]
    figure = draw_timing(section("timing", {"steps": steps}))
    assert figure is not None
    low, high = figure.axes[0].get_xlim()
    assert low == 0 < high


def test_examples_that_lost_nothing_need_no_sentence() -> None:
    whole = {"kept": 20, "kept_truncated": 0, "reassigned": 0, **LOSSES}
    assert example_sentences(section("examples", {"methods": {"persyn": whole}})) == []
    assert example_sentences(section("examples", {"methods": {"random": whole}})) == []
    unknown = dict.fromkeys(whole)
    assert example_sentences(section("examples", {"methods": {"persyn": unknown}})) == []


@pytest.mark.parametrize("lost", LOSSES)
def test_each_way_to_lose_an_example_is_told_alone(lost: str) -> None:
    counts = {"kept": 20, **LOSSES, lost: 3}
    (sentence,) = example_sentences(section("examples", {"methods": {"persyn": counts}}))
    assert sentence.startswith("20 prompts became examples; 3 ")
    assert sentence.count(",") == 0  # no other loss is listed


def test_a_student_that_was_not_judged_is_left_out_of_figure_and_sentences() -> None:
    found = student(persyn=result(0.5, 0.4, 0.6), random=result(None))
    figure = draw_student(found)
    assert figure is not None
    assert len(figure.axes[0].patches) == 1
    assert student_difference(found, "random") is None
    assert draw_student(student(persyn=result(None), random=result(None))) is None
    assert student_sentences(student(persyn=result(None))) == []
    assert student_sentences(student(random=result(0.5, 0.4, 0.6))) == []


def test_without_paired_differences_intervals_bound_them() -> None:
    found = student(persyn=result(0.5, 0.4, 0.6), random=result(0.3, 0.2, 0.35))
    difference = student_difference(found, "random")
    assert difference is not None
    assert difference["value"] == pytest.approx(0.2)
    assert (difference["low"], difference["high"]) == pytest.approx((0.05, 0.4))
    half_known = student(persyn=result(0.5, 0.4, 0.6), random=result(0.3))
    difference = student_difference(half_known, "random")
    assert difference is not None
    assert (difference["low"], difference["high"]) == (None, None)


def test_persyn_differs_from_itself_by_nothing_that_is_told() -> None:
    assert student_difference(student(persyn=result(0.5, 0.4, 0.6)), "persyn") is None


def test_a_page_of_sections_without_a_single_value_can_be_drawn() -> None:
    empty = {
        "timing": {"steps": []},
        "tokens": {"per_teacher": {}},
        "examples": {"methods": {}},
        "student": {"methods": {}},
        "alpha_sweep": {"points": []},
    }
    page = render(empty)
    assert not re.search(r"\b(nan|None|inf)\b", page)
