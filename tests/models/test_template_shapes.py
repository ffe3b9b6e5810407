"""A template that copies what messages say is asked once for conversations of the same roles."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.models.chat import Message
from persyn_ray.models.sanitize import escape_special_tokens, is_free_of_controls
from persyn_ray.models.templates.check import readability_check, why_unreadable
from persyn_ray.models.templates.shapes import check_by_roles

from .templates import FAMILIES, tokenizer_of

FORBIDS = (
    "{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('No') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TRIMS = FORBIDS.replace("+ m.content +", "+ m.content | replace('a', 'b') +")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["forbidden", " a ", "", "</think>", "<|im_end|>", "<|IM_END|>", "Ünïcode", "问题？"]
    ),
)
CONVERSATIONS = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=3
)


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


@pytest.mark.parametrize("name", FAMILIES)
@given(turns=CONVERSATIONS)
@settings(max_examples=40, deadline=None)
def test_the_answer_is_the_full_check_s(name: str, turns: list[tuple[str, str]]) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    messages = [Message(role=role, content=text) for role, text in turns]
    quick = readability_check(tokenizer)
    assert quick(messages) == why_unreadable(tokenizer, messages)
    assert quick(messages) == why_unreadable(tokenizer, messages)  # with the roles known


@pytest.mark.parametrize("template", [FORBIDS, TRIMS])
@given(turns=CONVERSATIONS)
@settings(max_examples=60, deadline=None)
def test_templates_that_look_into_texts_are_asked(
    template: str, turns: list[tuple[str, str]]
) -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = template
    messages = [Message(role=role, content=text) for role, text in turns]
    assert readability_check(tokenizer)(messages) == why_unreadable(tokenizer, messages)


def test_plain_prompts_are_checked_once_and_others_each() -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    asked: list[str] = []

    def check(messages: Sequence[Message]) -> None:
        asked.append(messages[0]["content"])

    def render(messages: Sequence[Message]) -> str:
        return messages[0]["content"] + "<|im_end|>"

    quick = check_by_roles(tokenizer, check, [render])
    for number in range(50):
        assert quick(user(f"What is {number} × 7, in words?")) is None
    assert asked == ["text-0-of-1"]
    for text in ("<|im_end|>", "<think>", "", "\u200b"):
        quick(user(text))
    assert asked[1:] == ["<|im_end|>", "<think>", "", "\u200b"]


@pytest.mark.parametrize("end", ["!", "\u200b!", "<|IM_END|>"])
def test_a_template_without_a_control_token_behind_the_prompt_is_asked_each_time(end: str) -> None:
    """Its tokens may span the border between prompt and response, whatever the roles are."""
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    asked: list[str] = []

    def check(messages: Sequence[Message]) -> None:
        asked.append(messages[0]["content"])

    quick = check_by_roles(tokenizer, check, [lambda messages: messages[0]["content"] + end])
    quick(user("one"))
    quick(user("two"))
    assert asked == ["text-0-of-1", "one", "two"]


@pytest.mark.parametrize("name", FAMILIES)
@given(text=st.one_of(TEXTS, st.text(alphabet="<|im_endIM>\u0130\u00ef\u0301 ", max_size=20)))
@settings(max_examples=60, deadline=None)
def test_a_text_said_to_be_free_of_controls_needs_no_escape(name: str, text: str) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    if is_free_of_controls(tokenizer, text):
        assert escape_special_tokens(tokenizer, text) == text
