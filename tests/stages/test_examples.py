"""Responses beside their prompts, as the student would see them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.stages.examples import paired

PROMPTS = pa.table({"prompt_id": ["a", "b"], "reference": ["1", None]})
WHOLE = ResponsesConfig(thinking="keep")  # pyright: ignore[reportCallIssue]
ANSWER_ALONE = ResponsesConfig(thinking="strip")  # pyright: ignore[reportCallIssue]


def said(*rows: tuple[str, str | None]) -> pa.Table:
    return pa.table(
        {
            "prompt_id": [prompt for prompt, _ in rows],
            "teacher": [f"t{n}" for n in range(len(rows))],
            "response": pa.array([text for _, text in rows], pa.string()),
        }
    )


def test_rows_meet_by_prompt_and_keep_the_order_of_the_responses() -> None:
    rows = paired(PROMPTS, said(("b", "x"), ("a", "y"), ("b", "z")))
    assert [(row["prompt_id"], row["reference"], row["teacher"]) for row in rows] == [
        ("b", None, "t0"),
        ("a", "1", "t1"),
        ("b", None, "t2"),
    ]


def test_a_response_to_an_unknown_prompt_is_a_fault_and_no_row() -> None:
    with pytest.raises(KeyError):
        paired(PROMPTS, said(("c", "x")))


def test_without_settings_a_response_is_seen_as_it_is_stored() -> None:
    (row,) = paired(PROMPTS, said(("a", "<think>hm</think>7")))
    assert (row["response"], row["seen_from"]) == ("<think>hm</think>7", 0)


@pytest.mark.parametrize("section", [None, WHOLE, ANSWER_ALONE])
def test_no_response_stays_none(section: ResponsesConfig | None) -> None:
    (row,) = paired(PROMPTS, said(("a", None)), section)
    assert row["response"] is None
    assert row["seen_from"] == 0


def test_thinking_that_was_cut_leaves_nothing_to_see() -> None:
    (row,) = paired(PROMPTS, said(("a", "<think>and then")), ANSWER_ALONE)
    assert (row["response"], row["seen_from"]) == ("", len("<think>and then"))


@given(st.text(), st.text(), st.sampled_from([WHOLE, ANSWER_ALONE]))
def test_what_is_seen_is_the_end_of_what_is_stored(
    thinking: str, answer: str, section: ResponsesConfig
) -> None:
    stored = f"<think>{thinking}</think>{answer}"
    (row,) = paired(PROMPTS, said(("a", stored)), section)
    assert stored[row["seen_from"] :] == row["response"]
