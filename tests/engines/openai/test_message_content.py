"""Texts and thinking out of messages of all shapes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.engines.openai.message_content import read_message
from persyn_ray.engines.openai.wire import EndpointAnswer, read_reply

TAGS = ("<think>", "</think>")
WHOLE = "<think>2+2</think>\nfour"
TEXT = {"type": "text", "text": "four"}
THINKING = {"type": "thinking", "thinking": "2+2"}


def completion(message: dict[str, Any], reason: str = "stop") -> Any:
    body = {"choices": [{"message": message, "finish_reason": reason}]}
    found = read_reply(200, {}, json.dumps(body).encode(), TAGS)
    assert isinstance(found, EndpointAnswer)
    return found.completion


@pytest.mark.parametrize(
    "message",
    [
        {"content": [THINKING, TEXT]},
        {"content": [TEXT, THINKING]},
        {"content": [THINKING | {"signature": "x"}, {"type": "output_text", "text": "four"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, TEXT]},
        {"content": [{"type": "reasoning", "summary": [{"text": "2+2"}]}, TEXT]},
        {"content": [{"reasoningContent": {"reasoningText": {"text": "2+2"}}}, {"text": "four"}]},
        {"content": [{"text": "2+2", "thought": True}, {"text": "four"}]},
        {"content": [THINKING, {"type": "redacted_thinking", "data": "x"}, "fo", "ur"]},
        {"content": [THINKING, TEXT], "reasoning_content": "2+2", "thinking_blocks": [THINKING]},
        {"content": [TEXT], "reasoning_content": "2+2"},
        {"content": TEXT, "reasoning": "2+2"},
        {"content": "four", "reasoning_content": "2+2", "reasoning": "2+2"},
        {"content": "four", "reasoning_content": "", "reasoning": "2+2"},
        {"content": "four", "reasoning_content": None, "thinking": "2+2"},
        {"content": "four", "reasoning": {"content": "2+2"}},
        {"content": "four", "reasoning_details": [{"type": "reasoning.text", "text": "2+2"}]},
        {"content": WHOLE},
        {"content": WHOLE, "reasoning_content": "2+2"},
        {"content": "2+2\n</think>\n\nfour", "reasoning_content": "2+2"},
        {"content": "<think>\n\n</think>\n\nfour", "reasoning_content": "2+2"},
    ],
)
def test_thinking_comes_between_its_tags_once(message: dict[str, Any]) -> None:
    done = completion(message)
    assert (done.text, done.finish_reason, done.error) == (WHOLE, "stop", None)


@pytest.mark.parametrize(
    ("message", "reason", "text"),
    [
        ({"content": [THINKING]}, "length", "<think>2+2"),
        ({"content": None, "reasoning_content": "2+2"}, "max_tokens", "<think>2+2"),
        ({"content": "<think>2+", "reasoning": "2+"}, "length", "<think>2+"),
        ({"content": [THINKING, {"type": "text", "text": "fo"}]}, "length", f"{WHOLE[:-2]}"),
        (
            {"content": [{"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}]},
            "stop",
            "four",
        ),
        ({"content": [{"type": "tool_use", "input": {}}, TEXT]}, "stop", "four"),
        (
            {"content": "a </think> in a text", "reasoning": "2+2"},
            "stop",
            "<think>2+2</think>\na </think> in a text",
        ),
    ],
)
def test_what_is_cut_or_in_pieces(message: dict[str, Any], reason: str, text: str) -> None:
    assert completion(message, reason).text == text


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"content": [{"type": "refusal", "refusal": "I will not"}]}, "refused: I will not"),
        ({"content": None, "refusal": "I will not"}, "refused: I will not"),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "image_url, no text"),
        ({"content": [{"type": "tool_use", "input": {}}]}, "tool_use, no text"),
        ({"content": 5}, "int, no text"),
    ],
)
def test_a_message_without_a_text_says_what_it_holds(message: dict[str, Any], words: str) -> None:
    done = completion(message)
    assert (done.text, done.finish_reason) == (None, "error")
    assert words in done.error


def test_a_completion_of_the_older_kind_has_its_text_elsewhere() -> None:
    body = {"choices": [{"text": "four", "finish_reason": "stop"}]}
    found = read_reply(200, {}, json.dumps(body).encode(), TAGS)
    assert isinstance(found, EndpointAnswer)
    assert found.completion.text == "four"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "thinking", "content", "x"]), inner)
    ),
    max_leaves=9,
)


@given(VALUES, VALUES, VALUES)
def test_a_message_of_any_shape_is_read(content: Any, thinking: Any, refusal: Any) -> None:
    said = read_message({"content": content, "reasoning": thinking, "refusal": refusal})
    assert isinstance(said.in_one(TAGS, True), str | None)


@given(st.lists(st.text(), min_size=1))
def test_no_character_of_a_text_in_parts_is_lost(texts: list[str]) -> None:
    said = read_message({"content": [{"type": "text", "text": text} for text in texts]})
    assert said.text == "".join(texts)
