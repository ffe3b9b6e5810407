"""Verifiable instructions: each kind with a response that follows it and one that does not."""

import builtins
import json
from typing import Any

import pytest

from persyn_ray.checks import ifeval
from persyn_ray.checks.ifeval import follows, why_unreadable
from persyn_ray.checks.verifier import CORRECT, CRASHED, NO_ANSWER, WRONG
from persyn_ray.errors import ConfigError


def told(*listed: dict[str, Any]) -> str:
    return json.dumps(listed)


NO_COMMA = {"id": "punctuation:no_comma"}
ENGLISH = "the quick brown fox jumps over the lazy dog and runs into the dark forest"


@pytest.mark.parametrize(
    ("name", "arguments", "right", "wrong"),
    [
        ("punctuation:no_comma", {}, "Yes and no.", "Yes, and no."),
        ("keywords:existence", {"keywords": ["fox", "dog"]}, "A fox, a dog.", "A fox."),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A dog.", "A cat."),
        (
            "keywords:frequency",
            {"keyword": "go", "frequency": 2, "relation": "at least"},
            "go and go",
            "go",
        ),
        (
            "keywords:letter_frequency",
            {"letter": "z", "let_frequency": 2, "let_relation": "less than"},
            "lazy",
            "pizza",
        ),
        (
            "length_constraints:number_words",
            {"num_words": 4, "relation": "at least"},
            "one two three four",
            "one two three",
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            "First.\n\nThen more.",
            "First.\n\nAfter that.",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 1}, "Dear [name]", "Dear"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi.\nP.S. More", "Hi."),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
        ("detectable_format:json_format", {}, '{"a": 1}', "a is 1"),
        ("detectable_format:title", {}, "<<Joy>>\nText", "Joy\nText"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*so*", "so"),
        ("startend:end_checker", {"end_phrase": "The end."}, "It was. The end.", "It was."),
        ("startend:quotation", {}, '"quoted"', "bare"),
        ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.upper()),
        ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
        ("language:response_language", {"language": "en"}, ENGLISH, "Der Hund läuft in den Wald."),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, "Why? So.", "So."),
    ],
)
def test_instructions(name: str, arguments: dict[str, Any], right: str, wrong: str) -> None:
    reference = told({"id": name, **arguments})
    assert why_unreadable(reference) is None
    assert follows(right, reference, loose=False) == CORRECT
    assert follows(wrong, reference, loose=False) == WRONG


def test_every_instruction_counts() -> None:
    reference = told(NO_COMMA, {"id": "startend:end_checker", "end_phrase": "Done."})
    assert follows("All is well. Done.", reference, loose=False) == CORRECT
    assert follows("All, is well. Done.", reference, loose=False) == WRONG
    assert follows("All is well.", reference, loose=False) == WRONG
    assert follows(" \n", reference, loose=False) == NO_ANSWER


def test_loosely_a_preamble_and_stars_are_not_in_the_way() -> None:
    reference = told(NO_COMMA)
    response = "Sure, here it is:\nNo pauses at all."
    assert follows(response, reference, loose=False) == WRONG
    assert follows(response, reference, loose=True) == CORRECT
    assert follows("One, two.\nThree, four.\nFive, six.", reference, loose=True) == WRONG


def test_null_arguments_do_not_count() -> None:
    assert why_unreadable(told({**NO_COMMA, "num_words": None})) is None


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("72", "no JSON list"),
        ("[]", "no JSON list"),
        ("{broken", "no JSON:"),
        ("[" * 100_000, "no JSON:"),
        ('["punctuation:no_comma"]', "None is no instruction"),
        (told({"id": "punctuation:no_such"}), "'punctuation:no_such' is no instruction"),
        (told({"id": ["punctuation:no_comma"]}), "is no instruction"),
        (told({"id": "length_constraints:number_words", "num_words": 3}), "needs the arguments"),
        (told({**NO_COMMA, "num_words": 3}), "needs the arguments"),
        (
            told({"id": "length_constraints:number_words", "num_words": 3, "relation": "around"}),
            "around",
        ),
        (
            told(
                {"id": "length_constraints:number_words", "num_words": "x", "relation": "at least"}
            ),
            "not supported",
        ),
    ],
)
def test_references_that_are_no_instructions_say_why(reference: str, why: str) -> None:
    assert why_unreadable(reference) is not None
    assert why in str(why_unreadable(reference))
    assert follows("Something.", reference, loose=False) == CRASHED


def test_without_its_data_set_an_instruction_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Checker:
        def __init__(self, name: str) -> None: ...

        def get_instruction_args_keys(self) -> list[str]:
            return []

        def build_description(self) -> None: ...

        def check_following(self, value: str) -> bool:
            raise LookupError("Resource punkt_tab not found.")

    monkeypatch.setattr(ifeval, "_library", lambda: {"needs:data": Checker})
    assert "punkt_tab is not installed" in str(why_unreadable(told({"id": "needs:data"})))


class Failing:
    """Raises on some texts, and is followed on the others that start with yes."""

    def check_following(self, value: str) -> bool:
        if "raise" in value:
            raise RuntimeError(value)
        return value.startswith("yes")


def test_a_checker_that_fails_leaves_the_verdict_open_unless_another_says_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ifeval, "_checkers", lambda _: (Failing(),))
    assert follows("raise", "", loose=False) == CRASHED
    assert follows("raise\nyes", "", loose=True) == CORRECT
    monkeypatch.setattr(ifeval, "_checkers", lambda _: (Failing(), _NeverFollowed()))
    assert follows("raise", "", loose=False) == WRONG


class _NeverFollowed:
    def check_following(self, value: str) -> bool:
        return False


def test_responses_are_not_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reference = told({"id": "language:response_language", "language": "en"})
    assert follows("1234567", reference, loose=False) == CORRECT
    assert "1234567" not in caplog.text


def test_verdicts_on_short_texts_do_not_change() -> None:
    reference = told({"id": "language:response_language", "language": "en"})
    verdicts = {follows("a an la", reference, loose=False) for _ in range(20)}
    assert len(verdicts) == 1


def test_an_absent_package_is_named_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("if_verifiable"):
            raise ImportError("No module named 'if_verifiable'")
        return real(name, *args, **kwargs)

    ifeval._library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"kind instructions needs the package if-verifiable"):
        why_unreadable(told({**NO_COMMA, "absent": None}))
    ifeval._library.cache_clear()


@pytest.mark.parametrize(
    ("name", "arguments", "right", "wrong"),
    [
        # Words stand for themselves, not for patterns, and letters are those that were given.
        ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2}, "# and #", "a # b"),
        ("keywords:letter_frequency", {"letter": "é", "let_frequency": 2}, "été", "et toi"),
        ("keywords:forbidden_words", {"forbidden_words": ["a.b"]}, "acb and aXb", "it is a.b"),
        ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, "In C only.", "In C++ too."),
        ("keywords:forbidden_words", {"forbidden_words": ["不"]}, "我们都好", "我们不好"),
        ("keywords:existence", {"keywords": ["(x)"]}, "see (x) there", "see x there"),
        ("keywords:frequency", {"keyword": "1.5", "frequency": 1}, "1.5 litres", "125 litres"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "don't"},
            "First.\n\nDon't go.",
            "First.\n\nDo go.",
        ),
        ("startend:end_checker", {"end_phrase": 'He said "no"'}, 'So. He said "no"', "So."),
    ],
)
def test_instructions_are_checked_as_they_were_given(
    name: str, arguments: dict[str, Any], right: str, wrong: str
) -> None:
    relation = {"relation": "at least"} if "frequency" in arguments else {}
    relation |= {"let_relation": "at least"} if "let_frequency" in arguments else {}
    reference = told({"id": name, **arguments, **relation})
    assert why_unreadable(reference) is None
    # A checker that draws at random would not say the same every time.
    assert {follows(right, reference, loose=False) for _ in range(20)} == {CORRECT}
    assert {follows(wrong, reference, loose=False) for _ in range(20)} == {WRONG}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 5, "first_word": "then"},
        ),
        ("keywords:forbidden_words", {"forbidden_words": "cat"}),
        ("keywords:existence", {"keywords": []}),
        ("keywords:existence", {"keywords": ["", "fox"]}),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 2}),
        ("length_constraints:number_words", {"num_words": -4, "relation": "at least"}),
        ("length_constraints:number_words", {"num_words": float("nan"), "relation": "at least"}),
    ],
)
def test_what_cannot_be_checked_as_given_is_refused(name: str, arguments: dict[str, Any]) -> None:
    assert why_unreadable(told({"id": name, **arguments})) is not None
