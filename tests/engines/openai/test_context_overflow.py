"""Prompts and responses that do not fit an endpoint's context: asked for with what fits."""

import json
from typing import Any

import pytest

from persyn_ray.engines.openai.context_overflow import read_overflow
from persyn_ray.engines.openai.error_kinds import read_complaint

from .asking import engine_of, reasons, request, sampling
from .fault_server import Call, FaultServer, Reply, answer, failure

CONTEXT, PROMPT = 4096, 4000
ASKED = 512

# What servers say to a prompt of 4,000 tokens and 512 more, with a context of 4,096.
SAID: dict[str, Any] = {
    "openai": {
        "error": {
            "message": "This model's maximum context length is 4096 tokens. However, you requested "
            "4512 tokens (4000 in the messages, 512 in the completion). Please reduce the length "
            "of the messages or completion.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "vllm": {
        "object": "error",
        "message": "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's "
        "maximum context length is 4096 tokens and your request has 4000 input tokens "
        "(512 > 4096 - 4000).",
        "type": "BadRequestError",
        "code": 400,
    },
    "llama.cpp": {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size, try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 4000,
            "n_ctx": 4096,
        }
    },
    "tgi": {
        "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
        "Given: 4000 `inputs` tokens and 512 `max_new_tokens`",
        "error_type": "validation",
    },
    "anthropic": {
        "error": {
            "type": "invalid_request_error",
            "message": "input length and `max_tokens` exceed context limit: 4000 + 512 > 4096, "
            "decrease input length or `max_tokens` and try again",
        }
    },
    "openrouter": {
        "error": {
            "message": "This endpoint's maximum context length is 4096 tokens. However, you "
            "requested about 4512 tokens (4000 of text input, 512 in the output).",
            "code": 400,
        }
    },
}


def said(name: str) -> Reply:
    return Reply(400, json.dumps(SAID[name]).encode())


@pytest.mark.parametrize("name", SAID)
def test_what_fits_is_read_from_every_servers_words(name: str) -> None:
    overflow = read_overflow(read_complaint(json.dumps(SAID[name]).encode()), "refused")
    assert overflow is not None
    assert overflow.room(ASKED) == CONTEXT - PROMPT


@pytest.mark.parametrize(
    "message", ["temperature must be below 2", "content policy violation", "no such model", ""]
)
def test_other_refusals_say_nothing_of_lengths(message: str) -> None:
    content = json.dumps({"error": {"message": message}}).encode()
    assert read_overflow(read_complaint(content), "refused") is None


@pytest.mark.parametrize("name", SAID)
def test_a_response_that_does_not_fit_is_asked_for_with_what_does(name: str) -> None:
    def plan(call: Call) -> Reply | None:
        is_long = call.method == "POST" and call.body["max_tokens"] > CONTEXT - PROMPT
        return said(name) if is_long else None

    with FaultServer(plan) as server:
        engine = engine_of(server, sampling=sampling(max_tokens=ASKED))
        (completion,) = engine.generate([request("long")])
        engine.close()
    assert completion.text == "answer to long"
    assert [call.body["max_tokens"] for call in server.prompts] == [ASKED, CONTEXT - PROMPT]


def test_an_estimate_of_the_server_is_allowed_for_once() -> None:
    """A server may refuse what it said would fit: it is asked once more, for a little less."""

    def plan(call: Call) -> Reply | None:
        is_long = call.method == "POST" and call.body["max_tokens"] > CONTEXT - PROMPT - 20
        return said("openai") if is_long else None

    with FaultServer(plan) as server:
        engine = engine_of(server, sampling=sampling(max_tokens=ASKED))
        assert reasons(engine.generate([request("long")])) == ["stop"]
        engine.close()
    limits = [call.body["max_tokens"] for call in server.prompts]
    assert limits == [ASKED, CONTEXT - PROMPT, CONTEXT - PROMPT - 64]


def test_a_prompt_that_does_not_fit_by_itself_is_that_prompts_error_alone() -> None:
    long = {
        "error": {
            "message": "This model's maximum context length is 4096 tokens. However, your messages "
            "resulted in 9000 tokens. Please reduce the length of the messages.",
            "code": "context_length_exceeded",
        }
    }

    def plan(call: Call) -> Reply | None:
        if call.method == "POST" and call.prompt == "book":
            return Reply(400, json.dumps(long).encode())
        return None

    with FaultServer(plan) as server:
        engine = engine_of(server)
        book, *others = engine.generate([request("book"), *(request(f"p{i}") for i in range(20))])
        assert reasons(engine.generate([request("next")])) == ["stop"]
        engine.close()
    assert (book.finish_reason, book.text) == ("error", None)
    assert "9000 tokens" in str(book.error)
    assert set(reasons(others)) == {"stop"}
    assert sum(call.prompt == "book" for call in server.prompts) == 1


def test_many_prompts_that_do_not_fit_stop_no_teacher() -> None:
    def plan(call: Call) -> Reply | None:
        return failure(400, "Prompt is too long: 9000 tokens > 4096 maximum")

    with FaultServer(plan) as server:
        engine = engine_of(server)
        assert set(reasons(engine.generate([request(f"p{i}") for i in range(30)]))) == {"error"}
        engine.close()


def test_the_most_tokens_of_any_response_are_learned_for_later_prompts() -> None:
    def plan(call: Call) -> Reply | None:
        if call.method == "POST" and call.body["max_tokens"] > 100:
            return failure(
                400,
                "max_tokens: 512 > 100, which is the maximum allowed number of output tokens for m",
            )
        return None

    with FaultServer(plan) as server:
        engine = engine_of(server, sampling=sampling(max_tokens=ASKED))
        assert reasons(engine.generate([request("a")])) == ["stop"]
        assert reasons(engine.generate([request("b")])) == ["stop"]
        engine.close()
    assert [call.body["max_tokens"] for call in server.prompts] == [ASKED, 100, 100]


def test_a_second_attempt_that_can_be_no_longer_is_not_paid_for() -> None:
    def plan(call: Call) -> Reply | None:
        if call.method != "POST":
            return None
        is_long = call.body["max_tokens"] > CONTEXT - PROMPT
        return said("openai") if is_long else answer(call, finish_reason="length")

    with FaultServer(plan) as server:
        engine = engine_of(server, sampling=sampling(max_tokens=ASKED))
        assert reasons(engine.generate([request("long")])) == ["length"]
        (again,) = engine.generate([request("long", 2 * ASKED)])
        engine.close()
    assert again.text is None
    assert [call.body["max_tokens"] for call in server.prompts][:2] == [ASKED, CONTEXT - PROMPT]
    assert all(
        call.body["max_tokens"] in (ASKED, 2 * ASKED, CONTEXT - PROMPT) for call in server.prompts
    )
    assert sum(call.body["max_tokens"] == CONTEXT - PROMPT for call in server.prompts) == 1


def test_a_context_that_is_known_refuses_prompts_before_they_are_sent() -> None:
    with FaultServer() as server:
        engine = engine_of(server, context=10)
        long, short = engine.generate([request("x" * 1000), request("short")])
        engine.close()
    assert (long.finish_reason, short.finish_reason) == ("error", "stop")
    assert "too long for a context of 10 tokens" in str(long.error)
    assert [call.prompt for call in server.prompts] == ["short"]
