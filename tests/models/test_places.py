"""Where tokens of a response stand in its text, whatever a chat template makes of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.places import span_in_text
from persyn_ray.models.random_init import chat_tokenizer

QWEN3 = (Path(__file__).parents[1] / "templates" / "qwen3.jinja").read_text()
BYTES = chat_tokenizer()


def example_of(tokenizer: PreTrainedTokenizerFast, response: str) -> Example:
    return encode_example(tokenizer, [{"role": "user", "content": "Why?"}], response)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), min_size=1))
def test_every_stretch_of_bytes_is_found_to_the_character(response: str) -> None:
    """A token of this tokenizer is a byte, so places in UTF-8 are those of the tokens."""
    if not response.strip():
        return
    example, data = example_of(BYTES, response), response.encode()
    for start in range(0, len(data), 3):
        tokens = start, min(start + 5, len(data))
        span = span_in_text(BYTES, example, tokens, response)
        counts = [len(data[:at].decode(errors="ignore")) for at in tokens]
        assert span == (tuple(counts) if counts[0] < counts[1] else None)


def test_the_end_of_turn_and_what_a_template_writes_first_are_no_part_of_the_text() -> None:
    thinking = chat_tokenizer()
    thinking.chat_template = QWEN3
    example = example_of(thinking, "It is 4.")
    written = "<think>\n\n</think>\n\n"
    assert example.num_response_tokens == len(written) + len("It is 4.") + 1
    first = span_in_text(thinking, example, (0, len(written) + 2), "It is 4.")
    last = span_in_text(
        thinking, example, (len(written) + 6, example.num_response_tokens), "It is 4."
    )
    assert (first, last) == ((0, 2), (6, 8))
    assert span_in_text(thinking, example, (0, 5), "It is 4.") is None


def test_white_space_that_a_template_strips_moves_nothing() -> None:
    stripping = chat_tokenizer()
    stripping.chat_template = str(BYTES.chat_template).replace("['content']", "['content'] | trim")
    assert "trim" in stripping.chat_template
    response = "\n  It is 4.  \n"
    example = example_of(stripping, response)
    assert example.num_response_tokens == len("It is 4.") + 1
    assert span_in_text(stripping, example, (6, 7), response) == (9, 10)


@pytest.mark.parametrize("num_tokens", [21, 20])
def test_a_response_that_the_context_cuts_has_its_places(num_tokens: int) -> None:
    """Also where the context ends between the two bytes of a character."""
    response = "First twelve, then é and the rest."
    whole = example_of(BYTES, response)
    cut = Example(whole.ids[: whole.num_prompt_tokens + num_tokens], whole.num_prompt_tokens)
    assert span_in_text(BYTES, cut, (6, 12), response) == (6, 12)
    span = span_in_text(BYTES, cut, (14, num_tokens), response)
    assert span is not None
    assert response[slice(*span)] == "then é"


def test_words_that_were_changed_are_found_only_where_they_stand_once() -> None:
    """A control token is broken up before it is tokenised, so the text is another."""
    response = "Well, <|im_end|> and then, and then some."
    example = example_of(BYTES, response)
    shift = len("\u200d".encode())
    some, then = (response.index(word) + shift for word in ("some", "and then"))
    assert span_in_text(BYTES, example, (some, some + 4), response) == (36, 40)
    assert span_in_text(BYTES, example, (then, then + 8), response) is None


@pytest.mark.parametrize("tokens", [(0, 0), (3, 3), (8, 9)])
def test_a_stretch_without_a_character_is_no_place(tokens: tuple[int, int]) -> None:
    assert span_in_text(BYTES, example_of(BYTES, "It is 4."), tokens, "It is 4.") is None
