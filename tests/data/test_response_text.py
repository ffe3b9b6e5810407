"""Loops against a brute-force definition; thinking and what the student sees of it."""

import string
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.data.response_text import (
    is_loop,
    is_thinking_unclosed,
    judged_text,
    student_text,
    without_thinking,
)
from persyn_ray.recipe.data import ResponsesConfig

TAGS = ("<think>", "</think>")
NUMBERS = " ".join(map(str, range(400)))
TABLE = "| n | square |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(60))
LIST = "".join(f"{n}. the same words in every line of this list\n" for n in range(30))
CODE = "def f():\n" + "    if x:\n" * 8 + "        }\n" * 15


def is_loop_by_definition(text: str, repeats: int, min_chars: int) -> bool:
    """A passage u and a beginning v of it, so that the text ends in u u … u v."""
    text = " " + " ".join(text.split())
    return any(
        text.endswith(passage * times + passage[:part])
        for start in range(len(text))
        for end in range(start + 1, len(text) + 1)
        for passage in [text[start:end]]
        for part in range(len(passage))
        for times in [(len(text) - start - part) // len(passage)]
        if times >= repeats and times * len(passage) + part >= min_chars
    )


@settings(deadline=None)
@given(st.text("ab ", max_size=22), st.integers(2, 4), st.integers(1, 12))
def test_loops_are_those_of_the_definition(text: str, repeats: int, min_chars: int) -> None:
    expected = is_loop_by_definition(text, repeats, min_chars)
    assert is_loop(text, repeats, min_chars) == expected


@given(st.text("abc\n", max_size=60), st.text("xyz ,.\n", min_size=1, max_size=40), st.data())
def test_a_passage_repeated_to_the_end_is_a_loop_wherever_it_was_cut(
    before: str, passage: str, data: st.DataObject
) -> None:
    passage = " ".join(passage.split()) or "x"
    times = data.draw(st.integers(max(8, 200 // len(passage) + 1), 220))
    cut = data.draw(st.integers(0, len(passage)))
    assert is_loop(before + passage * times + passage[:cut], 8)


@given(st.text(string.printable, max_size=199))
def test_short_texts_are_no_loops(text: str) -> None:
    assert not is_loop(text, 2)


@given(st.text("ab \n", max_size=60), st.sampled_from(["\n", "  ", "\t \n"]))
def test_kinds_of_white_space_make_no_difference(text: str, other: str) -> None:
    assert is_loop(text, 2, 10) == is_loop(text.replace(" ", other), 2, 10)


@pytest.mark.parametrize(
    "text", [NUMBERS, TABLE, LIST, CODE, "The sum is " + "0 " * 90, "}\n" * 60, "", " " * 500]
)
def test_lists_tables_and_code_are_no_loops(text: str) -> None:
    assert not is_loop(text, 8)


def test_a_loop_must_be_long_frequent_and_at_the_end() -> None:
    passage = "Wait, let me check that once more. "
    assert is_loop(passage * 8, 8)
    assert not is_loop(passage * 7, 8)
    assert not is_loop(passage * 20 + "The answer is 4.", 8)
    assert is_loop("ha" * 100, 8)
    assert not is_loop("ha" * 99, 8)
    assert is_loop(NUMBERS + "0 " * 300, 8)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(str, range(20_000))),
        "a" * 99_000 + "b" + "a" * 199,
        ("a" * 150 + "b") * 600 + "c" + "a" * 180,
    ],
)
def test_a_hundred_thousand_characters_take_no_time(text: str) -> None:
    start = time.process_time()
    assert not is_loop(text, 8)
    assert time.process_time() - start < 2.5


def test_only_what_follows_the_last_thinking_is_the_answer() -> None:
    for text, answer in (
        ("No tags at all. ", "No tags at all. "),
        ("<think>2+2 is 4</think>\n\n4", "4"),
        ("2+2 is 4</think> 4", "4"),
        ("So: <think>a</think>b<think>c</think>\nd", "d"),
        ("<think>2+2 is", ""),
        ("<think>a</think>b<think>c", ""),
        ("<think>a</think>", ""),
        ("", ""),
    ):
        assert without_thinking(text, TAGS) == answer


def test_thinking_is_unclosed_when_it_was_cut() -> None:
    assert is_thinking_unclosed("<think>2+2 is", TAGS)
    assert is_thinking_unclosed("<think>a</think>b<think>", TAGS)
    assert not is_thinking_unclosed("<think>a</think>b", TAGS)
    assert not is_thinking_unclosed("a</think>b", TAGS)
    assert not is_thinking_unclosed("a", TAGS)


@given(st.lists(st.sampled_from(["<think>", "</think>", "so ", "4", "\n"])).map("".join))
def test_an_answer_holds_no_thinking_and_ends_the_text(text: str) -> None:
    answer = without_thinking(text, TAGS)
    assert text.endswith(answer)
    assert without_thinking(answer, TAGS) == answer
    assert not any(tag in answer for tag in TAGS)


@dataclass(frozen=True)
class Seen:
    thinking: str
    think_tags: tuple[str, str] = ("[", "]")


def test_the_student_sees_thinking_unless_it_is_stripped() -> None:
    assert student_text("[2+2] 4", Seen("keep")) == "[2+2] 4"
    assert student_text("[2+2] 4", Seen("strip")) == "4"
    assert student_text("[2+2", Seen("strip")) == ""
    assert student_text(None, Seen("strip")) is None


@pytest.mark.parametrize(
    ("response", "judged"),
    [
        ("<think>It is 5.</think>\nThe answer is 7.", "The answer is 7."),
        ("It is 5.</think> 7", "7"),  # the template had opened it
        ("<think>a</think> 5 <think>b</think> 7", "7"),
        ("<think>never ends \\boxed{5}", ""),
        ("<think>alone</think>", ""),
        ("<think>alone</think>\n\u200b \u2060", ""),
        (" \n\t", ""),
        ("\u200b", ""),
        (None, ""),
        ("7", "7"),
    ],
)
def test_judged_is_the_answer_behind_the_last_thinking(response: str | None, judged: str) -> None:
    assert judged_text(response, TAGS) == judged


def test_thinking_has_the_tags_that_the_recipe_gives() -> None:
    assert judged_text("[5] 7", ("[", "]")) == "7"
    assert judged_text("<think>5</think>7", ("[", "]")) == "<think>5</think>7"


@pytest.mark.parametrize("thinking", ["keep", "strip"])
@pytest.mark.parametrize("response", [" ", "\u200b", "<think>x</think> ", "<think>x"])
def test_what_holds_no_answer_is_nothing_to_the_student(thinking: str, response: str) -> None:
    seen = ResponsesConfig.model_validate({"thinking": thinking})
    assert student_text(response, seen) == ""
