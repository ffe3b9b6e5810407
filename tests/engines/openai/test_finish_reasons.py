"""How responses end, in the words of many servers: no text is lost, none is called whole that is
not."""

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.engines.openai.finish_reasons import read_ending
from persyn_ray.engines.openai.wire import EndpointAnswer, Fault, read_reply

from .asking import engine_of, requests
from .fault_server import FaultServer, answer

TAGS = ("<think>", "</think>")
STOP = [
    "stop",
    "STOP",
    "Stop",
    "eos",
    "eos_token",
    "stop_sequence",
    "end_turn",
    "END_TURN",
    "COMPLETE",
    "complete",
    "eosFound",
    "stopStringFound",
    "FinishReason.STOP",
    "FINISH_REASON_STOP",
    "EOS_TOKEN",
    "stop_token",
    "endoftext",
    "finish",
    "normal",
    "done",
]
LENGTH = [
    "length",
    "LENGTH",
    "max_tokens",
    "MAX_TOKENS",
    "maxPredictedTokensReached",
    "FinishReason.MAX_TOKENS",
    "max_output_tokens",
    "model_length",
    "TOKEN_LIMIT",
    "ERROR_LIMIT",
    "limit",
    "contextLengthReached",
    "model_context_window_exceeded",
    "max_new_tokens",
    "incomplete",
]
FILTERED = [
    "content_filter",
    "CONTENT_FILTERED",
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "sensitive",
    "guardrail_intervened",
    "ERROR_TOXIC",
    "refusal",
    "FinishReason.SAFETY",
]
CALLED = ["tool_calls", "function_call", "tool_use", "TOOL_CALL", "MALFORMED_FUNCTION_CALL"]
INTERRUPTED = [
    "abort",
    "error",
    "ABORTED",
    "cancelled",
    "insufficient_system_resource",
    "network_error",
    "TIMEOUT",
    "USER_CANCEL",
    "modelUnloaded",
]
UNKNOWN = ["stop_str_x", "OTHER", "weird", "2", "", " "]


def ended(reason: Any, text: str | None = "four", tokens: int = 4, limit: int = 16) -> Any:
    choice = {"message": {"content": text}, "finish_reason": reason}
    body = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}
    sent = {"max_tokens": limit}
    return read_reply(200, {}, json.dumps(body).encode(), TAGS, sent)


def completion(*given: Any, **settings: Any) -> Any:
    found = ended(*given, **settings)
    assert isinstance(found, EndpointAnswer)
    return found.completion


@pytest.mark.parametrize("word", STOP)
def test_a_whole_response_is_whole_in_every_servers_words(word: str) -> None:
    done = completion(word)
    assert (done.text, done.finish_reason, done.error) == ("four", "stop", None)


@pytest.mark.parametrize("word", LENGTH)
def test_a_cut_response_is_known_as_one(word: str) -> None:
    done = completion(word)
    assert (done.text, done.finish_reason, done.error) == ("four", "length", None)


@pytest.mark.parametrize("word", FILTERED)
def test_a_filtered_response_is_none_with_a_reason(word: str) -> None:
    done = completion(word)
    assert (done.text, done.finish_reason) == (None, "error")
    assert "content filter" in done.error
    assert word in done.error


@pytest.mark.parametrize("word", CALLED)
def test_a_tool_call_is_no_answer_unless_there_is_a_text(word: str) -> None:
    done = completion(word, None)
    assert (done.text, done.finish_reason) == (None, "error")
    assert "called a tool" in done.error
    done = completion(word)
    assert (done.text, done.finish_reason) == ("four", "stop")
    assert word in done.error


@pytest.mark.parametrize("word", INTERRUPTED)
def test_an_interrupted_response_is_asked_for_again(word: str) -> None:
    assert isinstance(ended(word), Fault)


@pytest.mark.parametrize("word", [*UNKNOWN, None, [], {}, 7, True])
def test_a_word_that_nobody_knows_costs_no_text_and_is_on_record(word: Any) -> None:
    done = completion(word)
    assert (done.text, done.finish_reason) == ("four", "stop")
    assert done.error.endswith("taken as stop")
    if isinstance(word, str) and word.strip():
        assert repr(word) in done.error
    assert completion(word, "").finish_reason == "error"
    # As long as it was allowed to be: that was the end of the tokens, not of the response.
    assert completion(word, tokens=16).finish_reason == "length"


@given(st.text() | st.none() | st.integers() | st.lists(st.text()) | st.floats())
def test_no_word_loses_a_text_but_for_a_filter_or_an_interruption(word: Any) -> None:
    found, kind = ended(word), read_ending(word).kind
    if kind == "interrupted":
        assert isinstance(found, Fault)
    elif kind == "filtered":
        assert found.completion.error
    else:
        assert found.completion.text == "four"
        assert (found.completion.error is None) == (kind in ("stop", "length", "loop"))


def test_case_and_signs_of_a_word_do_not_matter() -> None:
    for words in (STOP, LENGTH, FILTERED, CALLED, INTERRUPTED):
        for word in words:
            kinds = {read_ending(one).kind for one in (word, word.upper(), word.replace("_", "-"))}
            assert len(kinds) == 1, word


def test_odd_words_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with FaultServer(lambda call: answer(call, finish_reason="weird")) as server:
        engine = engine_of(server)
        completions = engine.generate(requests(9))
        engine.close()
    assert {done.text for done in completions} == {f"answer to p{number}" for number in range(9)}
    said = [record.message for record in caplog.records if "weird" in record.message]
    assert said == ["Responses of ada came with finish reason 'weird', taken as stop."]
