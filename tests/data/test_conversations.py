"""Conversations in the forms that tables hold them in: read alike, or refused with a reason."""

import json
from typing import Any

import pytest

from persyn_ray.data.conversations import NoConversation, answer_of, messages_of, prompt_key

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
ANSWER, AGAIN = {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Go on"}
CHAT = [SYSTEM, USER, ANSWER, AGAIN]
SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Hi"},
    {"from": "gpt", "value": "Hello"},
    {"from": "human", "value": "Go on"},
]


def parts(message: dict[str, str], **more: Any) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"], **more}]}


@pytest.mark.parametrize(
    "cell",
    [
        CHAT,
        SHAREGPT,
        [*CHAT, {"role": "assistant", "content": "On."}],
        [*SHAREGPT, {"from": "gpt", "value": "On."}],
        [*CHAT, {"role": "assistant", "content": None, "tool_calls": [{}]}, {"role": "tool"}],
        [{"role": "developer", "content": "Be brief."}, *CHAT[1:]],
        [{**turn, "role": turn["role"].upper()} for turn in CHAT],
        [SYSTEM, USER, {**ANSWER, "role": "model"}, AGAIN],
        [SYSTEM, USER, {**ANSWER, "role": "bot"}, AGAIN],
        [parts(turn) for turn in CHAT],
        [parts(turn, image_url=None) for turn in CHAT],
        [{**turn, "content": [turn["content"]]} for turn in CHAT],
        [{**turn, "content": [{"text": turn["content"]}]} for turn in CHAT],
        [{**turn, "name": "x", "weight": 0, "tool_calls": None} for turn in CHAT],
        [turn | dict.fromkeys(("role", "content")) for turn in SHAREGPT],
        [{"role": turn["role"], "text": turn["content"]} for turn in CHAT],
        {"messages": CHAT, "id": 7},
        {"conversations": SHAREGPT, "messages": None},
        {"role": [turn["role"] for turn in CHAT], "content": [turn["content"] for turn in CHAT]},
        {"from": [t["from"] for t in SHAREGPT], "value": [t["value"] for t in SHAREGPT]},
        json.dumps(CHAT),
        json.dumps(CHAT, indent=1) + "\n",
        json.dumps({"messages": CHAT}),
        json.dumps(SHAREGPT),
        str(CHAT),
        str(SHAREGPT),
    ],
)
def test_the_common_forms_are_one_conversation(cell: Any) -> None:
    assert messages_of(cell) == CHAT


def test_text_parts_stand_one_below_the_other() -> None:
    turn = {
        "role": "user",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    }
    assert messages_of([turn]) == [{"role": "user", "content": "a\nb"}]


def test_a_lone_message_is_a_conversation() -> None:
    assert messages_of(USER) == [USER]


@pytest.mark.parametrize(
    "cell",
    [
        "Hi",
        "",
        None,
        7,
        {"other": 1},
        "[1, 2, 3]",
        '{"role": "admin", "content": "x"}',  # JSON that a prompt may consist of
        '{"role": "admin", broken}',
        'Fix this: [{"role": "user", "content": "x"}]',
        '[{"role": "user", "content": "x"}] is what?',
        '[{"name": "role", "value": 3}]',
        "[x] \\frac{role}{2}",
    ],
)
def test_other_cells_are_no_conversation(cell: Any) -> None:
    assert messages_of(cell) is None


IMAGE = {"type": "image_url", "image_url": {"url": "http://x"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    ("cell", "reason", "detail"),
    [
        ([], "bad_messages", "no user message"),
        ([SYSTEM, ANSWER], "bad_messages", "no user message"),
        ([{"role": "robot", "content": "x"}], "bad_messages", "needs a role of .*'robot'"),
        ([{"content": "x"}], "bad_messages", "needs a role"),
        (["a", "b"], "bad_messages", "needs a role .* found 'a'"),
        ([{"role": 5, "content": "x"}], "bad_messages", "needs a role"),
        ([{"role": "user"}], "bad_messages", "needs a text"),
        ([{"role": "user", "content": 5}], "bad_messages", "needs a text"),
        ([{"role": "user", "content": " \u200b\n"}], "no_text", "last user message is empty"),
        ([{"role": "user", "content": []}], "no_text", "last user message is empty"),
        ([{"role": "user", "content": [IMAGE]}], "not_text", "'image_url'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "not_text", "'text'"),
        ([{"role": "user", "content": [7]}], "not_text", "'int'"),
        ([parts(USER), {"role": "user", "content": ["see", IMAGE]}], "not_text", "'image_url'"),
        ([USER, CALL, {"role": "tool", "content": "5"}, AGAIN], "tool_turns", "tools"),
        ([USER, {"from": "observation", "value": "5"}, AGAIN], "tool_turns", "observation"),
        ("[{'role': 'user', 'content': 'Hi'}\n {'role': 'assistant'}]", "bad_messages", "neither"),
        ('{"messages": [{"role": "user", "content": "Hi"]}', "bad_messages", "neither JSON nor"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_reason(
    cell: Any, reason: str, detail: str
) -> None:
    with pytest.raises(NoConversation, match=detail) as caught:
        messages_of(cell)
    assert caught.value.args[0] == reason
    assert prompt_key(cell) is None


@pytest.mark.parametrize("cell", [" Go on\n", CHAT, json.dumps(SHAREGPT), [AGAIN]])
def test_a_prompt_is_known_by_its_last_question(cell: Any) -> None:
    assert prompt_key(cell) == "Go on"


@pytest.mark.parametrize(
    ("cell", "answer"),
    [
        ("Hello", "Hello"),
        (" {'a': 1} ", " {'a': 1} "),
        (5.0, "5"),
        (None, None),
        (float("nan"), None),
        ([ANSWER], "Hello"),
        ([USER, ANSWER], "Hello"),
        ([parts(ANSWER)], "Hello"),
        (ANSWER, "Hello"),
        (SHAREGPT[:3], "Hello"),
        ({"messages": [USER, ANSWER]}, "Hello"),
    ],
)
def test_a_response_is_a_text_or_the_last_turn(cell: Any, answer: str | None) -> None:
    assert answer_of(cell) == answer


@pytest.mark.parametrize("cell", [[], ["Hello"], [ANSWER, AGAIN], {"text": "Hello"}, [CALL], {}])
def test_what_is_no_response_is_refused(cell: Any) -> None:
    with pytest.raises(NoConversation):
        answer_of(cell)
