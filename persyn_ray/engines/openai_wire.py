"""What goes to an OpenAI-compatible endpoint and what comes back; pure, sends nothing.

A reply is one of three things: an answer to the prompt (also: that there will never be one), a
fault that another attempt may not meet, or a stop, after which no prompt will be answered.
"""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from persyn_ray.engines.base import Completion, FinishReason, Message
from persyn_ray.teachers import Sampling
from persyn_ray.usage import FREE, MOST_TOKENS, Usage, billed

TEMPLATE_TOKENS = 256  # allowed for what a chat template adds of its own

FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "loop"}
# The endpoint's own troubles, reported as reasons for the end of a response.
INTERRUPTED = frozenset({"abort", "error", "insufficient_system_resource"})
OVERLOADED = frozenset({408, 429})  # and all from 500 on
RETRIED = OVERLOADED | {409, 425}
# Wrong key, empty account, wrong address: true of every prompt, and of none in particular; so are
# redirections.
NEVER = frozenset({401, 402, 403, 404, 405})
NEVER_CODES = frozenset(
    {
        "billing_hard_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "unknown_parameter",
        "unsupported_parameter",
        "unsupported_value",
    }
)


@dataclass(frozen=True)
class Answer:
    """The end of a request; a cost of None is unknown."""

    completion: Completion
    cost: Usage | None


@dataclass(frozen=True)
class Fault:
    """Something to try again; `pause` is how many seconds the endpoint asks to wait."""

    reason: str
    cost: Usage | None  # None where the endpoint may have written, and may bill it
    is_overload: bool = False
    pause: float | None = None


@dataclass(frozen=True)
class Stop:
    """The endpoint will answer nothing, whatever the prompt."""

    status: int  # 0 where nothing could be sent
    reason: str


Reply = Answer | Fault | Stop


def request_body(
    model: str,
    messages: Sequence[Message],
    sampling: Sampling,
    max_tokens: int | None,
    template_kwargs: Mapping[str, Any],
    extra_body: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields of a request; a field that `extra_body` sets to null is left out."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": max_tokens or sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "chat_template_kwargs": dict(template_kwargs) or None,
        "thinking_token_budget": sampling.thinking_tokens,
    }
    return {key: value for key, value in (body | dict(extra_body)).items() if value is not None}


def upper_bound(body: Mapping[str, Any], num_bytes: int, max_tokens: int) -> Usage:
    """Most tokens of a request whose body has so many bytes: a token is at least one byte."""
    limits = [body.get("max_tokens"), body.get("max_completion_tokens")]
    most = max([limit for limit in limits if isinstance(limit, int)], default=max_tokens)
    num_choices = body.get("n")
    times = num_choices if isinstance(num_choices, int) else 1
    return Usage(num_bytes + TEMPLATE_TOKENS, most * times)


def read_reply(
    status: int, headers: Mapping[str, str], content: bytes, tags: tuple[str, str]
) -> Reply:
    """What an endpoint has said."""
    if 200 <= status < 300:
        return _read_answer(headers, content, tags)
    message, code = _complaint(content)
    reason = f"status {status}: {message}"
    if status < 400 or status in NEVER or code in NEVER_CODES:
        return Stop(status, reason)
    if status in RETRIED or status >= 500:
        pause = asked_pause(headers)
        is_overload = status in OVERLOADED or status >= 500 or pause is not None
        return Fault(reason, FREE, is_overload, pause)
    return Answer(Completion.failed(reason), FREE)


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date; None without a wait."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        date, now = _timestamp(given), _timestamp(headers.get("date", ""))
        if date is None:
            return None
        seconds = date - (time.time() if now is None else now)  # clocks differ
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def listed_models(content: bytes) -> list[str] | None:
    """Names in the answer to `GET /models`; None where it is JSON but no such list.

    Raises:
        ValueError: the content is no JSON.
    """
    parsed = _parse(content)
    rows = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        return None
    names = [row.get("id") for row in rows if isinstance(row, dict)]
    return [name for name in names if isinstance(name, str)]


def complaint(content: bytes) -> str:
    """The message in the body of an error."""
    return _complaint(content)[0]


def printable(text: str) -> str:
    """Text that can be stored: halves of surrogate pairs are no characters."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _read_answer(headers: Mapping[str, str], content: bytes, tags: tuple[str, str]) -> Reply:
    kind = headers.get("content-type", "application/json")
    if "json" not in kind:
        return Fault(f"the answer is {kind}, not JSON", None)
    try:
        parsed = _parse(content)
        choice = parsed["choices"][0]
        message, ending = choice["message"], str(choice.get("finish_reason"))
        text = _text(message, ending, tags)
    except ValueError as error:
        return Fault(f"the answer is no JSON: {error}", None)
    except (TypeError, KeyError, IndexError, AttributeError):
        return Fault(f"the answer has no choices: {_complaint(content)[0]}", None)
    if ending in INTERRUPTED:
        return Fault(f"the response was interrupted ({ending})", None, is_overload=True)
    counted, cost = _usage(parsed.get("usage")), billed(parsed.get("usage"))
    reason = _error(message, ending)
    if reason is None and text is not None:
        finish = FINISH_REASONS[ending]
        done = Completion(printable(text), finish, counted.prompt, counted.response)
    else:
        reason = reason or "the content of the message is no text"
        done = Completion(None, "error", counted.prompt, counted.response, reason)
    return Answer(done, cost)


def _text(message: Mapping[str, Any], ending: str, tags: tuple[str, str]) -> str | None:
    """Thinking between its tags, then the content; a thought that was cut is left open."""
    content = message.get("content")
    content = "" if content is None else content
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(content, str):
        return None
    if not isinstance(thinking, str) or not thinking:
        return content
    if ending != "stop" and not content:
        return f"{tags[0]}{thinking}"
    return f"{tags[0]}{thinking}{tags[1]}\n{content}"


def _error(message: Mapping[str, Any], ending: str) -> str | None:
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return f"the model refused: {message['refusal']}"
    if ending == "content_filter":
        return "the endpoint's content filter withheld the response"
    if ending not in FINISH_REASONS:
        return f"the response ended with {ending!r}, not with a text"
    return None


def _usage(given: Any) -> Usage:
    """Token counts, 0 where there are none."""
    if not isinstance(given, dict):
        return FREE
    found = (given.get("prompt_tokens"), given.get("completion_tokens"))
    prompt, response = (
        count if isinstance(count, int) and 0 < count <= MOST_TOKENS else 0 for count in found
    )
    return Usage(prompt, response)


def _complaint(content: bytes) -> tuple[str, str | None]:
    """Message and code of an error in one of the shapes that servers use."""
    text = content.decode("utf-8", "replace").strip()
    try:
        parsed = _parse(content)
    except ValueError:
        return text or "no message", None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else text), None
    message = error.get("message") or error.get("detail") or text
    code = error.get("code")
    message = message if isinstance(message, str) else json.dumps(message)
    return message, code if isinstance(code, str) else None


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
