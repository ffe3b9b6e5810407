"""A user is told that a run has little to learn from, why, and which setting helps."""

from typing import Any

import pytest
from rich.console import Console

from persyn_ray.report.card import card
from persyn_ray.report.concerns import concerns, fate_sentences, preference_sentences
from persyn_ray.report.content import complete
from persyn_ray.report.html import render
from persyn_ray.report.text import console

SPACE = "\N{NO-BREAK SPACE}"


def fates(**counts: int) -> dict[str, int]:
    nothing = dict.fromkeys(("truncated", "looped", "failed", "absent", "unscored"), 0)
    named = {f"num_{name}": value for name, value in (nothing | counts).items()}
    return {"num_responses": 100 - named["num_absent"]} | named


def test_a_sound_run_raises_no_concern(content: dict[str, Any]) -> None:
    assert concerns(complete(content)) == []
    assert 'id="concerns"' not in render(content)


@pytest.mark.parametrize(
    ("fate", "phrase", "setting"),
    [
        ("truncated", "were cut by their token limit", "sampling.max_tokens"),
        ("truncated", "were cut by their token limit", "sampling.retry_tokens"),
        ("truncated", "were cut by their token limit", "responses.incomplete"),
        ("looped", "go round in circles", "responses.loop_repeats"),
        ("failed", "failed", "dead letters"),
        ("absent", "are absent", "the same command"),
        ("unscored", "have no score", "scoring.quality"),
    ],
)
def test_each_fate_is_told_from_its_threshold_on(fate: str, phrase: str, setting: str) -> None:
    assert fate_sentences({"a": fates(**{fate: 9}), "b": fates(**{fate: 9})}, "responses") == []
    (some,) = fate_sentences({"a": fates(**{fate: 20}), "b": fates()}, "responses")
    assert some.startswith(f"20 of 200 responses (10{SPACE}%) {phrase}; a 20 of 100. To change it:")
    assert setting in some
    (most,) = fate_sentences({"a": fates(**{fate: 90}), "b": fates(**{fate: 10})}, "responses")
    assert most.startswith(f"Most responses {phrase}: 100 of 200")
    assert "a 90 of 100, b 10 of 100" in most


def test_one_teacher_of_many_that_is_mostly_cut_is_named() -> None:
    teachers = {f"t{n}": fates() for n in range(19)} | {"cut": fates(truncated=60)}
    (told,) = fate_sentences(teachers, "responses")
    assert "cut 60 of 100" in told


def test_few_preferences_are_told_with_their_reasons() -> None:
    counts = {"num": 62, "num_rewarded": 30, "num_comparable": 20, "num_all_tied": 11}
    (told,) = preference_sentences(counts | {"num_preferring": 9}, "It learns")
    assert "only 9 of 62 prompts prefer one teacher to another" in told
    assert "on 11 all known rewards are equal, on 42 fewer than two rewards are known" in told
    assert "prompts.num_parallel" in told
    ties = {"num": 90, "num_rewarded": 90, "num_comparable": 90, "num_all_tied": 50}
    (told,) = preference_sentences(ties | {"num_preferring": 40}, "It learns")
    assert "scoring.alpha" in told
    many = {"num": 90, "num_rewarded": 90, "num_comparable": 90, "num_all_tied": 45}
    assert preference_sentences(many | {"num_preferring": 45}, "It learns") == []
    assert preference_sentences(None, "It learns") == []


def test_every_form_of_the_report_says_it_unless_cut_ones_are_kept(content: dict[str, Any]) -> None:
    for facts in content["reward"]["teachers"].values():
        facts["num_truncated"] = 2000
    screen = Console(width=400)
    with screen.capture() as capture:
        screen.print(console(content))
    for form in (render(content), card(content, {"train": "*.parquet"}), capture.get()):
        assert "Most responses were cut by their token limit: 10,000 of 12,500" in form
    content["reward"]["incomplete"] = "keep"
    assert "Most responses" not in render(content)


def test_a_router_no_better_than_one_teacher_is_told(content: dict[str, Any]) -> None:
    gain = content["router"]["differences"]["best_constant"]
    gain.update(value=0.01, low=-0.02, high=0.04)
    (told,) = concerns(complete(content))
    assert told.startswith("The router is not clearly better than the best single teacher")
    assert "prompts.num_parallel" in told
    gain.update(value=-0.05, low=-0.08, high=-0.02)
    (told,) = concerns(complete(content))
    assert told.startswith("The router is worse than the best single teacher")


def test_without_that_comparison_a_router_is_held_against_a_draw(content: dict[str, Any]) -> None:
    router = content["router"]
    del router["differences"]["best_constant"]
    assert concerns(complete(content)) == []
    router["hit_at_1"].update(value=0.25, low=0.2, high=0.3)
    router["chance_at_1"] = 0.24
    (told,) = concerns(complete(content))
    assert told.startswith("The router is not clearly better than a draw: Hit@1 0.25")
