"""Builds requests to OpenAI-compatible endpoints and parses the replies; pure, sends nothing.

A reply is one of three things: an answer to the prompt (also: that there will never be one), a
fault that another attempt may not meet, or a stop, after which no prompt will be answered.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persyn_ray.client.connections import retry_after
from persyn_ray.data.response_text import valid_unicode
from persyn_ray.engines.base import Completion, Message
from persyn_ray.engines.openai.context_overflow import Overflow, read_overflow
from persyn_ray.engines.openai.error_kinds import Cause, Complaint, read_complaint
from persyn_ray.engines.openai.event_stream import parse
from persyn_ray.engines.openai.extra_body import NAMES, largest_limit, limits_in, with_limit
from persyn_ray.engines.openai.finish_reasons import Ending, read_ending
from persyn_ray.engines.openai.message_content import Said, read_message
from persyn_ray.recipe.teachers import SamplingConfig
from persyn_ray.storage.usage import FREE, MOST_TOKENS, Usage, billed

TEMPLATE_TOKENS = 256  # allowed for what a chat template adds of its own

OVERLOADED = frozenset({408, 429})  # and all from 500 on
RETRIED = OVERLOADED | {409, 425}
# Wrong key, empty account, wrong address: true of every prompt, and of none in particular; so are
# redirections.
NEVER = frozenset({401, 402, 403, 404, 405})
STOPPING: tuple[Cause, ...] = ("key", "money", "model", "parameter")
PROMPT_FIELDS = frozenset({"model", "messages"})  # of a body; all others are parameters


@dataclass(frozen=True)
class EndpointRefusal:
    """A refusal that may be the prompt's own, or everybody's; see `openai_verdicts`."""

    key: str  # what it has in common with others that have the same cause
    is_lasting: bool  # whether the prompt's own refusal is for good


@dataclass(frozen=True)
class EndpointAnswer:
    """The end of a request; a cost of None is unknown."""

    completion: Completion
    cost: Usage | None
    refusal: EndpointRefusal | None = None
    """Set where it is not clear that the prompt is to blame."""
    overflow: Overflow | None = None
    """Set where the request was too long."""


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
    cause: Cause | None = None
    refusal: EndpointRefusal | None = None
    """What it is instead for an endpoint that has answered others."""


Reply = EndpointAnswer | Fault | Stop


def request_body(
    model: str,
    messages: Sequence[Message],
    sampling: SamplingConfig,
    max_tokens: int | None,
    template_kwargs: Mapping[str, Any],
    extra_body: Mapping[str, Any],
) -> dict[str, object]:
    """The fields of a request; a field that `extra_body` sets to null is left out.

    What says nothing is not sent, since many endpoints refuse what they do not know: a temperature
    or top_p of 1, a top_p beside a temperature of 0, a seed of 0. A limit that `extra_body` names
    is the one that counts; `max_tokens` goes in its place.
    """
    named, is_greedy = limits_in(extra_body), sampling.temperature == 0
    has_other = named.get(("max_completion_tokens",)) is not None
    body: dict[str, object] = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": None if has_other else max_tokens or sampling.max_tokens,
        "temperature": None if sampling.temperature == 1 else sampling.temperature,
        "top_p": None if is_greedy or sampling.top_p == 1 else sampling.top_p,
        "seed": sampling.seed or None,
        "stop": list(sampling.stop) or None,
        "chat_template_kwargs": dict(template_kwargs) or None,
        "thinking_token_budget": sampling.thinking_tokens,
    }
    body = {key: value for key, value in (body | dict(extra_body)).items() if value is not None}
    return body if max_tokens is None else with_limit(body, max_tokens)


def upper_bound(body: Mapping[str, Any], num_bytes: int, max_tokens: int) -> Usage:
    """Most tokens of a request whose body has so many bytes: a token is at least one byte."""
    most = largest_limit(body) or max_tokens
    num_choices = body.get("n")
    times = num_choices if isinstance(num_choices, int) else 1
    return Usage(num_bytes + TEMPLATE_TOKENS, most * times)


def read_reply(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    tags: tuple[str, str],
    body: Mapping[str, Any] | None = None,
) -> Reply:
    """What an endpoint has said to a request with this body."""
    body = body or {}
    if 200 <= status < 300:
        answer = _read_answer(headers, content, tags, largest_limit(body))
        if answer is not None:
            return answer
    complaint, sent = read_complaint(content), body.keys() - PROMPT_FIELDS
    if status >= 300:
        return _read_refusal(status, headers, complaint, sent)
    inner = (complaint.fields or {}).get("code")  # OpenRouter passes refusals on under 200
    if isinstance(inner, int) and 400 <= inner < 600:
        return _read_refusal(inner, headers, complaint, sent)
    return Fault(f"the answer has no choices: {complaint.message}", None)


def _read_refusal(
    status: int, headers: Mapping[str, str], complaint: Complaint, sent: Collection[str]
) -> Reply:
    reason, cause = f"status {status}: {complaint.message}", complaint.cause(status, sent)
    own = EndpointRefusal(complaint.key, is_lasting=status not in NEVER and cause not in STOPPING)
    overflow = None if status in NEVER | RETRIED else read_overflow(complaint, reason)
    if overflow is not None and cause not in ("key", "money"):
        return EndpointAnswer(Completion.failed(reason), FREE, overflow=overflow)
    if cause in STOPPING and not _names_limit(cause, complaint):
        is_for_all = cause in ("key", "money") or status in NEVER
        return Stop(status, reason, cause, None if is_for_all else own)
    if status in RETRIED or status >= 500:
        pause = asked_pause(headers)
        is_overload = status in OVERLOADED or status >= 500 or pause is not None
        return Fault(reason, FREE, is_overload, pause)
    if cause != "prompt" and (status < 400 or status in NEVER):
        return Stop(status, reason, cause, own if status == 403 else None)
    return EndpointAnswer(Completion.failed(reason), FREE, None if cause == "prompt" else own)


def _names_limit(cause: Cause | None, complaint: Complaint) -> bool:
    """A limit that is refused may be too much for one prompt alone."""
    return cause == "parameter" and complaint.names(NAMES)


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None without a wait."""
    seconds = retry_after(headers)
    return seconds if seconds is not None and 0 < seconds < math.inf else None


def listed_models(content: bytes) -> list[str] | None:
    """Names in the answer to `GET /models`; None where it is JSON but no such list.

    Raises:
        ValueError: the content is no JSON.
    """
    parsed = parse(content)
    rows = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        return None
    names = [row.get("id") for row in rows if isinstance(row, dict)]
    return [name for name in names if isinstance(name, str)]


def complaint(content: bytes) -> str:
    """The message in the body of an error."""
    return read_complaint(content).message


def _read_answer(
    headers: Mapping[str, str], content: bytes, tags: tuple[str, str], limit: int | None
) -> Reply | None:
    """None where there is no answer in it."""
    try:
        parsed = parse(content)
        choice = parsed["choices"][0]
        message = choice["message"] if "text" not in choice else {"content": choice["text"]}
        ending, said = read_ending(choice.get("finish_reason")), read_message(message)
    except ValueError as error:
        kind = headers.get("content-type", "")
        return Fault(f"the answer is {'' if 'json' in kind else kind + ', '}no JSON: {error}", None)
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    if ending.kind == "interrupted":
        return Fault(f"the response was interrupted ({ending.word})", None, is_overload=True)
    counted, cost = _usage(parsed.get("usage")), billed(parsed.get("usage"))
    return EndpointAnswer(_completion(said, ending, counted, tags, limit), cost)


def _completion(
    said: Said, ending: Ending, counted: Usage, tags: tuple[str, str], limit: int | None
) -> Completion:
    """The text with how it ended, or why there is none; its `error` holds an odd ending's word."""
    reason = _why_no_text(said, ending)
    if reason is not None:
        return Completion(None, "error", counted.prompt, counted.response, reason)
    # Where the server's word says nothing, a response as long as it may be was cut.
    is_cut = ending.kind in ("unknown", "called") and counted.response == limit
    kind = "length" if is_cut else ending.kind
    finish = kind if kind in ("length", "loop") else "stop"
    text = said.in_one(tags, finish == "stop") or ""
    note = None
    if ending.kind in ("unknown", "called"):
        note = f"{ending.shown}, taken as {finish}"
    return Completion(valid_unicode(text), finish, counted.prompt, counted.response, note)


def _why_no_text(said: Said, ending: Ending) -> str | None:
    if said.refusal:
        return f"the model refused: {said.refusal}"
    if ending.kind == "filtered":
        return f"the endpoint's content filter withheld the response ({ending.shown})"
    if said.text is None:
        return f"the content of the message is {', '.join(said.others)}, no text"
    has_text = bool(said.text.strip() or said.thinking.strip())
    if ending.kind == "called" and not said.text.strip():
        return f"the model called a tool ({ending.shown}) and wrote no text"
    if ending.kind == "unknown" and not has_text:
        return f"the response is empty ({ending.shown})"
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
