"""What a forwarded answer cost, read while it passes, whatever pieces it comes in."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from persyn_ray.serving.chat import usage_meter
from persyn_ray.serving.chat.usage_meter import Stream, Whole

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


WORD = event(choices=[{"delta": {"content": "Hi"}}])
LAST = event(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"


def passed(meter: Whole | Stream, chunks: Sequence[bytes]) -> bytes:
    async def given() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def all_of_it() -> bytes:
        return b"".join([chunk async for chunk in meter.through(given())])

    return asyncio.run(all_of_it())


def pieces(whole: bytes, size: int) -> list[bytes]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_stream_passes_unchanged_and_is_counted_in_any_pieces(size: int) -> None:
    whole, meter = WORD * 3 + LAST + DONE, Stream(hides_usage=False)
    assert passed(meter, pieces(whole, size)) == whole
    assert meter.cost is not None
    assert (meter.cost.prompt, meter.cost.response) == (7, 5)


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_client_that_did_not_ask_sees_no_usage_and_it_is_counted_all_the_same(
    size: int,
) -> None:
    meter = Stream(hides_usage=True)
    assert passed(meter, pieces(WORD + LAST + DONE, size)) == WORD + DONE
    assert meter.cost is not None


def test_words_about_usage_in_an_answer_are_no_usage() -> None:
    word = event(choices=[{"delta": {"content": 'Say "usage": {"prompt_tokens": 1}'}}])
    meter = Stream(hides_usage=True)
    assert passed(meter, [word, DONE]) == word + DONE
    assert meter.cost is None


@pytest.mark.parametrize("cut", [WORD, WORD + event(choices=[{}], usage=USAGE)])
def test_a_stream_that_was_cut_has_no_known_cost(cut: bytes) -> None:
    """A count on the way is of what has come so far, and more may have been written."""
    meter = Stream(hides_usage=False)
    assert passed(meter, [cut]) == cut
    assert meter.cost is None


@pytest.mark.parametrize(
    "line", [b": comment\n", b"data: {torn\n", b'data: ["usage"]\n', b"\xff\xfe\n", b"no newline"]
)
def test_lines_that_are_no_events_pass_as_they_are(line: bytes) -> None:
    meter = Stream(hides_usage=True)
    assert passed(meter, [line, b""]) == line
    assert meter.cost is None


def test_a_line_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_meter, "MOST_KEPT", 100)
    chunks, meter = [b"data: " + b"x" * 99] * 5, Stream(hides_usage=False)
    assert passed(meter, chunks) == b"".join(chunks)
    whole = Whole()
    body = json.dumps({"usage": USAGE, "text": "x" * 300}).encode()
    assert passed(whole, pieces(body, 60)) == body
    assert whole.cost is None  # what has not been kept whole cannot be read


@pytest.mark.parametrize("size", [1, 10_000])
def test_an_answer_in_one_piece_says_what_it_cost(size: int) -> None:
    body, meter = json.dumps({"choices": [], "usage": USAGE}).encode(), Whole()
    assert passed(meter, pieces(body, size)) == body
    assert meter.cost is not None
    assert (meter.cost.prompt, meter.cost.response) == (7, 5)


@pytest.mark.parametrize("body", [b"", b"[1]", b"<html>", b"{}", b'{"usage": null}', b"[" * 9999])
def test_an_answer_of_another_form_has_no_known_cost(body: bytes) -> None:
    meter = Whole()
    assert passed(meter, [body]) == body
    assert meter.cost is None
