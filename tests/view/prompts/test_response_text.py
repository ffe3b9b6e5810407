"""A response as it is shown: its parts, where it repeats itself, and stretches of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.view.prompts.response_text import ShownText, loop_start, shown_text, spans_in

TAGS = ("<think>", "</think>")


@pytest.mark.parametrize(
    ("response", "thinking", "text"),
    [
        ("<think>6 * 12</think>\n72", "6 * 12", "72"),
        ("<think></think>72", "", "72"),
        ("so <think>6 * 12", "6 * 12", "so"),
        ("<think>a</think>b<think>c", "<think>a</think>c", "b"),
        ("<think>思考</think>答え", "思考", "答え"),
    ],
)
def test_a_response_is_parted_at_its_tags(response: str, thinking: str | None, text: str) -> None:
    shown = shown_text(response, TAGS, None)
    assert (shown.thinking, shown.text) == (thinking, text)
    assert (shown.thinking_loop_start, shown.loop_start) == (None, None)


@pytest.mark.parametrize("before", ["", "Well, ", "Erst  dies.\n\n"])
@pytest.mark.parametrize("passage", ["wait, no. ", "等等，不对。\n", "so\t so "])
def test_a_loop_is_marked_where_it_begins(before: str, passage: str) -> None:
    text = before + passage * 60
    start = loop_start(text, 4)
    assert start is not None
    assert start <= len(before)
    # What stands before and ends as the passage does belongs to the loop: it repeats as well.
    assert passage.rstrip().endswith(text[start : len(before)].strip())
    assert loop_start(before + passage, 4) is None


def test_a_loop_in_cut_thinking_is_one_of_the_thinking() -> None:
    shown = shown_text("<think>" + "wait, no. " * 60, TAGS, 4)
    assert shown.thinking_loop_start is not None
    assert shown.loop_start is None
    answer = shown_text("<think>a</think>" + "wait, no. " * 60, TAGS, 4)
    assert answer.thinking_loop_start is None
    assert answer.loop_start is not None


RESPONSE = "<think>6 * 12 is 72.</think>\nThe answer is 72."


@pytest.mark.parametrize(
    ("part", "in_thinking", "in_text"),
    [
        ("12 is", "12 is", None),
        ("answer is", None, "answer is"),
        ("72.</think>\nThe", "72.", "The"),
        ("</think>", None, None),
        ("The answer is 72.", None, None),  # the whole answer: a mark would tell nothing
        (RESPONSE, None, None),
    ],
)
def test_a_stretch_is_found_in_its_part(
    part: str, in_thinking: str | None, in_text: str | None
) -> None:
    shown = shown_text(RESPONSE, TAGS, None)
    start = RESPONSE.index(part)
    thinking, text = spans_in(shown, RESPONSE, TAGS, (start, start + len(part)))
    assert (thinking and (shown.thinking or "")[slice(*thinking)]) == in_thinking
    assert (text and shown.text[slice(*text)]) == in_text


@given(st.text(alphabet="ab <think>/\n", max_size=40), st.data())
def test_a_stretch_never_reaches_out_of_its_part(response: str, data: st.DataObject) -> None:
    shown: ShownText = shown_text(response, TAGS, 3)
    start = data.draw(st.integers(0, len(response)))
    end = data.draw(st.integers(start, len(response)))
    for found, part in zip(
        spans_in(shown, response, TAGS, (start, end)),
        (shown.thinking or "", shown.text),
        strict=True,
    ):
        if found is not None:
            assert 0 <= found[0] < found[1] <= len(part)
            assert part[slice(*found)] in response[start:end]
