"""Bodies that are good JSON whatever is said of them, and streams that nobody asked for."""

import json
from typing import Any

import pytest

from persyn_ray.engines.openai.wire import EndpointAnswer, Fault, read_reply
from persyn_ray.storage.usage import Usage

from .asking import engine_of, requests
from .fault_server import Call, FaultServer, Reply, answer

TAGS = ("<think>", "</think>")
CHOICES = {"choices": [{"message": {"content": "fünf"}, "finish_reason": "stop"}]}
BODY = json.dumps(CHOICES | {"usage": {"prompt_tokens": 3, "completion_tokens": 4}})
UTF8 = BODY.encode()


def chunk(ending: str | None = None, **delta: Any) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": ending}]})


def stream(*lines: str) -> bytes:
    return "\n\n".join([*lines, ""]).encode()


USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
SOUND = [chunk(role="assistant"), chunk(content="fü"), chunk(content="nf"), chunk("stop"), USAGE]


@pytest.mark.parametrize(
    "kind",
    ["text/plain; charset=utf-8", "text/html", "application/octet-stream", "", "JSON", None],
)
@pytest.mark.parametrize(
    "content",
    [
        UTF8,
        b"\xef\xbb\xbf" + UTF8,
        b"\n  \n" + UTF8 + b"\n",
        json.dumps(json.loads(BODY), ensure_ascii=False).encode("utf-16"),
        stream(*SOUND, "data: [DONE]"),
        stream(*SOUND),
        stream(": keep-alive", "event: message", *SOUND, "data: [DONE]"),
        stream(*SOUND, "data: [DONE]").replace(b"\n", b"\r\n"),
        stream(f"data: {BODY}", "data: [DONE]"),
    ],
)
def test_a_good_body_is_read_whatever_its_type_is_said_to_be(
    content: bytes, kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    found = read_reply(200, headers, content, TAGS)
    assert isinstance(found, EndpointAnswer)
    assert (found.completion.text, found.completion.finish_reason) == ("fünf", "stop")
    assert found.cost == Usage(3, 4)


def test_one_broken_character_costs_no_more_than_itself() -> None:
    content = UTF8.replace(b"f\\u00fcnf", b"f\xfcnf")
    found = read_reply(200, {}, content, TAGS)
    assert isinstance(found, EndpointAnswer)
    assert found.completion.text == "f\ufffdnf"


def test_a_stream_has_its_thinking_and_its_end() -> None:
    content = stream(
        chunk(reasoning_content="2+"),
        chunk(reasoning_content="2"),
        chunk(content="4"),
        chunk("max_tokens"),
        "data: [DONE]",
    )
    found = read_reply(200, {}, content, TAGS)
    assert isinstance(found, EndpointAnswer)
    assert found.completion.text == "<think>2+2</think>\n4"
    assert found.completion.finish_reason == "length"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!doctype html><html>busy</html>", "text/html, no JSON"),
        (b"", "no JSON"),
        (UTF8[:-9], "no JSON"),
        (stream(*SOUND[:3]), "broke off"),
        (stream(*SOUND[:3], 'data: {"error": {"message": "upstream died"}}'), "upstream died"),
        (stream("data: [DONE]"), "broke off"),
        (b"data: {", "no JSON"),
    ],
)
def test_what_is_half_or_no_answer_is_a_fault(content: bytes, words: str) -> None:
    found = read_reply(200, {"content-type": "text/html"}, content, TAGS)
    assert isinstance(found, Fault)
    assert words in found.reason


def test_a_good_answer_of_the_wrong_type_is_paid_for_once() -> None:
    def plan(call: Call) -> Reply:
        return Reply(content=answer(call).content, headers={"Content-Type": "text/plain"})

    with FaultServer(plan) as server:
        engine = engine_of(server)
        (done,) = engine.generate(requests(1))
        engine.close()
    assert done.text == "answer to p0"
    assert len(server.prompts) == 1
