"""Bodies and replies without a socket."""

import json
from typing import Any

import pytest

from persyn_ray.engines.base import Message
from persyn_ray.engines.openai.wire import (
    FREE,
    EndpointAnswer,
    Fault,
    Stop,
    asked_pause,
    read_reply,
    request_body,
    upper_bound,
)
from persyn_ray.storage.usage import Usage

from .asking import sampling

TAGS = ("<think>", "</think>")
JSON = {"content-type": "application/json"}
TEXT = {"content": "four"}


def reply(status: int = 200, headers: dict[str, str] | None = None, **fields: Any):
    return read_reply(status, headers or JSON, json.dumps(fields).encode(), TAGS)


def ended(reason: Any, message: dict[str, Any]) -> EndpointAnswer:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    found = reply(choices=[{"message": message, "finish_reason": reason}], usage=usage)
    assert isinstance(found, EndpointAnswer)
    assert found.cost == Usage(3, 4)
    return found


@pytest.mark.parametrize(
    ("reason", "message", "text", "finish"),
    [
        ("stop", TEXT, "four", "stop"),
        ("length", TEXT, "four", "length"),
        ("repetition", TEXT, "four", "loop"),
        ("stop", {"content": None}, "", "stop"),
        ("stop", TEXT | {"reasoning": "2+2"}, "<think>2+2</think>\nfour", "stop"),
        ("stop", TEXT | {"reasoning_content": "2+2"}, "<think>2+2</think>\nfour", "stop"),
        ("length", {"content": None, "reasoning": "2+"}, "<think>2+", "length"),
        ("stop", {"content": "half \ud800 pair"}, "half \ufffd pair", "stop"),
        ("content_filter", TEXT, None, "error"),
        ("stop", {"content": None, "refusal": "I will not"}, None, "error"),
        ("stop", {"content": [{"type": "image"}]}, None, "error"),
    ],
)
def test_how_a_response_ended(reason: Any, message: Any, text: str | None, finish: str) -> None:
    completion = ended(reason, message).completion
    assert (completion.text, completion.finish_reason) == (text, finish)
    assert (completion.num_prompt_tokens, completion.num_tokens) == (3, 4)
    assert (completion.error is None) == (finish != "error")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"choices": [{"mess',
        b"<html>busy</html>",
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}',
        b'{"error": {"message": "upstream"}}',
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_an_answer_without_an_answer_is_a_fault_that_may_be_billed(content: bytes) -> None:
    found = read_reply(200, JSON, content, TAGS)
    assert isinstance(found, Fault)
    assert found.cost is None
    assert not found.is_overload


def test_a_response_that_the_endpoint_broke_off_is_a_fault() -> None:
    for reason in ("abort", "error", "insufficient_system_resource"):
        choices = [{"message": TEXT, "finish_reason": reason}]
        assert isinstance(reply(choices=choices), Fault)


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"prompt_tokens": -1, "completion_tokens": "9"}, {"prompt_tokens": 10**20}],
)
def test_counts_that_are_none_are_zero_and_the_cost_unknown(usage: Any) -> None:
    found = reply(choices=[{"message": TEXT, "finish_reason": "stop"}], usage=usage)
    assert isinstance(found, EndpointAnswer)
    assert (found.completion.num_prompt_tokens, found.completion.num_tokens) == (0, 0)
    assert found.cost is None


@pytest.mark.parametrize(
    ("status", "code", "kind", "is_overload"),
    [
        (400, "context_length_exceeded", EndpointAnswer, False),
        (413, None, EndpointAnswer, False),
        (422, None, EndpointAnswer, False),
        (408, None, Fault, True),
        (409, None, Fault, False),
        (425, None, Fault, False),
        (429, None, Fault, True),
        (500, None, Fault, True),
        (529, None, Fault, True),
        (302, None, Stop, False),
        (401, None, Stop, False),
        (402, None, Stop, False),
        (403, None, Stop, False),
        (404, None, Stop, False),
        (429, "insufficient_quota", Stop, False),
        (400, "unsupported_parameter", Stop, False),
    ],
)
def test_what_a_status_means(status: int, code: str | None, kind: type, is_overload: bool) -> None:
    found = reply(status, error={"message": "because", "code": code})
    assert isinstance(found, kind)
    if isinstance(found, Fault):
        assert (found.is_overload, found.cost) == (is_overload, FREE)
    if isinstance(found, EndpointAnswer):
        assert found.completion.error == f"status {status}: because"
        assert found.cost == FREE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": "plain"}', "plain"),
        (b'{"message": "flat", "code": 400}', "flat"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (b"not json", "not json"),
        (b"", "no message"),
        (b"[1]", "[1]"),
    ],
)
def test_messages_are_found_in_all_shapes(content: bytes, message: str) -> None:
    found = read_reply(400, JSON, content, TAGS)
    assert isinstance(found, EndpointAnswer)
    assert found.completion.error == f"status 400: {message}"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("Sun, 06 Nov 1994 08:50:00 GMT", 23.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", None),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wish_to_wait_is_seconds_or_a_date_by_the_servers_clock(
    given: str, seconds: float | None
) -> None:
    headers = {"retry-after": given, "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert asked_pause(headers) == seconds
    assert asked_pause({}) is None


def test_a_body_holds_what_is_set_and_nothing_else() -> None:
    messages = [Message(role="user", content="2+2?")]
    plain = request_body("tiny", messages, sampling(), None, {}, {})
    assert plain == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "2+2?"}],
        "max_tokens": 16,
        "temperature": 0.0,
    }
    settings = sampling(temperature=0.7, top_p=0.9, seed=3, stop=["\n"], thinking_tokens=9)
    full = request_body("tiny", messages, settings, 32, {"thinking": True}, {"top_k": 5, "seed": 4})
    assert full["max_tokens"] == 32
    assert (full["temperature"], full["top_p"], full["stop"]) == (0.7, 0.9, ["\n"])
    assert full["chat_template_kwargs"] == {"thinking": True}
    assert full["thinking_token_budget"] == 9
    assert (full["top_k"], full["seed"]) == (5, 4)


def test_a_field_set_to_null_is_left_out_and_bounds_follow_the_body() -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 50, "n": 2}
    body = request_body("tiny", [], sampling(), None, {}, extra)
    assert "max_tokens" not in body
    assert upper_bound(body, 1000, 16).response == 100
    assert upper_bound({}, 1000, 16).response == 16
    assert upper_bound(body, 1000, 16).prompt > 1000
