"""Protocol between client and endpoint: request and reply bodies, and the retry rule.

Knows no connections: `http.py` has those, once plain and once asynchronous.
"""

import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from persyn_ray.client.connections import retry_after
from persyn_ray.errors import ConfigError, DataError, PersynError

KEY_VARIABLE = "PERSYN_API_KEY"
BATCH_PROMPTS = 256
MOST_BYTES = 2**20
"""Of one request, if a single prompt is not longer: a quarter of what the endpoint takes unless
told otherwise (`serving.max_body_bytes`)."""
AGAIN = frozenset({429, 502, 503, 504})
FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
MOST_ASKED_SECONDS = 300.0
"""A server that asks for a longer pause than this gets none: the error says how long."""

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
JsonObject = dict[str, Any]
"""Whatever a server answers under names; other versions of the endpoint may say more."""


class RouterError(PersynError):
    """The endpoint refused a request, or could not be reached.

    `status` is that of the last answer, null if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Route:
    """Who should answer one prompt, and why."""

    teacher: str
    runner_up: str | None
    margin: float | None
    """Score of the teacher minus that of the runner-up; null for a fallback."""
    scores: dict[str, float]
    """Logits minus `price_weight` times price, of all teachers; empty for a fallback."""
    probabilities: dict[str, float] | None
    """Over the teachers that could be chosen; null for a router fitted by regression."""
    is_novel: bool | None
    """Whether the prompt is unlike the parallel set the router was fitted to."""
    distance: float | None
    fallback: str | None
    """Why the router had no part in it, "late" or "failed"; null if it chose."""
    router: str
    """The router's version."""


@dataclass(frozen=True)
class Access:
    """Where the endpoint is, the key for it, and how often to ask again."""

    base_url: str
    api_key: str = field(repr=False)
    retries: int

    @classmethod
    def of(cls, base_url: str, api_key: str | None, retries: int) -> "Access":
        """Raises ConfigError for what cannot be an address or a key."""
        key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
        if not key:
            raise ConfigError(
                f"No key for the router at {base_url!r}: set the environment variable "
                f"{KEY_VARIABLE} or give api_key. `persyn key NAME` makes one."
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError("The key holds characters that no key has; is it the right variable?")
        if retries < 0:
            raise ConfigError(f"retries is {retries}; 0 or more would be right.")
        return cls(_checked(base_url), key, retries)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}", "Accept": "application/json"}

    def pause(self, attempt: int, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Seconds until the next attempt, null if this one succeeded; attempts count from 0.

        Raises RouterError where asking again is useless or has been done often enough.
        """
        if isinstance(outcome, httpx.Response) and outcome.status_code == 200:
            return None
        if not _may_pass(outcome) or attempt >= self.retries:
            raise self.error(outcome, attempt + 1)
        backoff = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(attempt, 20))
        asked = retry_after(outcome.headers) if isinstance(outcome, httpx.Response) else None
        if asked is None:
            return backoff * random.uniform(0.5, 1.0)
        if asked > MOST_ASKED_SECONDS:
            raise self.error(outcome, attempt + 1, f" It asks for a pause of {asked:.0f} seconds.")
        # Workers that were turned away together must not come back together.
        return max(0.0, asked) + random.uniform(0.0, FIRST_SECONDS)

    def error(
        self, outcome: httpx.Response | httpx.RequestError, attempts: int, note: str = ""
    ) -> RouterError:
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        if isinstance(outcome, httpx.RequestError):
            reason = str(outcome) or type(outcome).__name__
            return RouterError(
                f"No answer from the router at {self.base_url}{tried}: {reason}. "
                "Is `persyn serve` running there, and is base_url its address?"
            )
        status = outcome.status_code
        said = f"The router at {self.base_url} answered {status}{tried}: {_said(outcome)}"
        return RouterError(f"{said}{note}{_advice(status)}", status)

    def parsed(self, response: httpx.Response) -> JsonObject:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self.no_router(response)
        return answer

    def routes(self, response: httpx.Response, num_prompts: int) -> list[Route]:
        """The answer's routes, one a prompt in their order."""
        answer = self.parsed(response)
        try:
            version = answer["router"]["version"]
            routes = [_route(route, version) for route in answer["routes"]]
        except (KeyError, TypeError):
            raise self.no_router(response) from None
        if len(routes) != num_prompts:
            raise RouterError(
                f"The router at {self.base_url} gave {len(routes)} routes to {num_prompts} prompts",
                response.status_code,
            )
        return routes

    def no_router(self, response: httpx.Response) -> RouterError:
        return RouterError(
            f"What answers at {self.base_url} is no router: {response.text[:100]!r}.{_advice(404)}",
            response.status_code,
        )


def bodies(
    prompts: Sequence[Prompt], batch_prompts: int, choice: Mapping[str, Any]
) -> Iterator[tuple[int, bytes]]:
    """Requests for so many prompts each, fewer where they are long, with the number in each."""
    fixed = _json(
        {name: value for name, value in choice.items() if value is not None}, "the choice"
    )
    tail = b"]" + (b"," + fixed[1:] if len(fixed) > 2 else b"}")
    held: list[bytes] = []
    num_bytes = 0
    for number, prompt in enumerate(prompts):
        written = _json(_conversation(prompt, number), f"prompt {number}")
        if held and (len(held) >= batch_prompts or num_bytes + len(written) > MOST_BYTES):
            yield len(held), b'{"prompts":[' + b",".join(held) + tail
            held, num_bytes = [], 0
        held.append(written)
        num_bytes += len(written) + 1
    if held:
        yield len(held), b'{"prompts":[' + b",".join(held) + tail


def _conversation(prompt: Any, number: int) -> str | list[dict[str, object]]:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence) and all(isinstance(message, Mapping) for message in prompt):
        return [dict(message) for message in prompt]
    hint = " Give several messages as one list within the list." * isinstance(prompt, Mapping)
    raise DataError(
        f"Prompt {number} is of type {type(prompt).__name__}; a text or a list of messages "
        f"(role, content) would be right.{hint}"
    )


def _json(value: Any, what: str) -> bytes:
    try:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot be written as JSON in UTF-8: {error}") from None


def _route(given: JsonObject, version: str) -> Route:
    return Route(
        teacher=given["teacher"],
        runner_up=given["runner_up"],
        margin=given["margin"],
        scores=given["scores"],
        probabilities=given["probabilities"],
        is_novel=given["is_novel"],
        distance=given["distance"],
        fallback=given["fallback"],
        router=version,
    )


def _checked(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
        is_address = url.scheme in ("http", "https") and bool(url.host)
    except (httpx.InvalidURL, TypeError):
        is_address = False
    if not is_address or url.query or url.fragment or url.userinfo:
        raise ConfigError(
            f"base_url is {base_url!r}; the address of `persyn serve` would be right, such as "
            "http://127.0.0.1:8000, without user, query or fragment."
        )
    return str(url).rstrip("/")


def _may_pass(outcome: httpx.Response | httpx.RequestError) -> bool:
    if isinstance(outcome, httpx.Response):
        # HAProxy says 500 for a replica that is gone; our own answers carry an id.
        is_proxys = outcome.status_code == 500 and "x-request-id" not in outcome.headers
        return is_proxys or outcome.status_code in AGAIN
    # A certificate does not become valid by waiting.
    return isinstance(outcome, httpx.TransportError) and "CERTIFICATE" not in str(outcome)


def _said(response: httpx.Response) -> str:
    """The message of an error in OpenAI's form, or the beginning of whatever came."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text.strip()[:200]
    text = str(message)[:1000] or "no reason given"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _advice(status: int) -> str:
    if status == 401:
        return f" Set {KEY_VARIABLE} or api_key to a key whose digest stands in serving.keys."
    if status == 413:
        return " Send shorter prompts, or let the endpoint take more by serving.max_body_bytes."
    if status < 400 or status in (404, 405):
        return " base_url must be the address of `persyn serve`, without /v1."
    return ""
