"""Proxy for chat completions: forwards a chat to its teacher's endpoint, and the answer back.

An answer is passed on as it comes, streams included. What a client could take for ours is not: a
key that the teacher refuses is our mistake (502), and its breakdown is not ours (502). Only text
is sent: a teacher's server would fetch the address of a picture from within its own network.
"""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from persyn_ray.engines.openai import wire
from persyn_ray.engines.openai.account import EndpointAccount
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.serving import UpstreamConfig
from persyn_ray.serving.chat.budget import Reservation, reserve
from persyn_ray.serving.chat.limits import bounded_chat, require_short
from persyn_ray.serving.chat.usage_meter import Stream, Whole
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.route_requests import Service, State
from persyn_ray.storage.usage import FREE, Usage

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
PASSED = ("content-type", "retry-after")
"""Headers of the teacher's answer that go on to the client."""
SPEAKS_TO_CLIENT = {400, 413, 422, 429, 503, 504}
"""What a teacher may say about a client's request; all else is between it and us."""
OF_THE_REQUEST = {400, 413, 422}
"""Of these the words are passed on; those about load name our account and its limits."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
GAVE_UP = {408, 499, 504, 524}
"""Somebody on the way waited no longer, and the teacher may have written; others are free."""
LONGEST_COMPLAINT = 2**16  # bytes of a refusal that are read


class Relay(StreamingResponse):
    """A teacher's answer as it comes. It breaks off where the teacher does: half an answer must not
    look whole; and the teacher is let go of whatever becomes of the client.
    """

    def __init__(
        self,
        reply: httpx.Response,
        headers: Mapping[str, str],
        reservation: Reservation,
        hides_usage: bool,
    ) -> None:
        is_stream = reply.headers.get("content-type", "").startswith("text/event-stream")
        self.reply, self.reservation = reply, reservation
        self.meter = Stream(hides_usage) if is_stream else Whole()
        chunks = reply.aiter_bytes()
        passed = self.meter.through(chunks) if reservation.is_counted else chunks
        super().__init__(passed, reply.status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.reservation.settle(self.meter.cost)
            await self.reply.aclose()


class Forwarder:
    """Connections to the teachers' endpoints."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._client: httpx.AsyncClient | None = None
        self._keeper = ThreadPoolExecutor(1, "ledger")

    @property
    def upstreams(self) -> Mapping[str, UpstreamConfig]:
        """Teachers that can answer chats now."""
        state = self.service.state
        if state is None:
            return {}
        return {n: up for n, up in state.upstreams.items() if n not in state.policy.masked}

    async def forward(
        self, state: State, teacher: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Response:
        """The teacher's answer to a chat.

        Raises:
            Refusal: 422 for more than may be asked for, 429 over the budget, 502 when the teacher
                is out of reach or refuses us, 504 when it is too slow, and its own status when it
                refuses the request or has no room for it.
        """
        upstream, account = state.upstreams[teacher], state.accounts.get(teacher)
        # Null says nothing with OpenAI; other servers refuse it.
        given = {k: v for k, v in body.items() if k != "persyn" and v is not None}
        content, most = bounded_chat(given, upstream, self.service.settings)
        hides_usage = account is not None and _ask_for_usage(content, upstream)
        request = httpx.Request(
            "POST",
            EndpointAccount(teacher, upstream).url("chat/completions"),
            content=json.dumps(content),  # ASCII: halves of characters pass as they came
            headers={"Content-Type": "application/json"},
            extensions=_limits(upstream),
        )
        require_short(teacher, upstream, request.content)
        # A token is at least one byte.
        bound = Usage(len(request.content) + wire.TEMPLATE_TOKENS, most)
        reservation = await reserve(teacher, account, bound, self._keeper)
        reply = await self._reply(EndpointAccount(teacher, upstream), request, teacher, reservation)
        passed = {name: reply.headers[name] for name in PASSED if name in reply.headers}
        if reply.is_success:
            return Relay(reply, passed | dict(headers), reservation, hides_usage)
        reservation.settle(None if reply.status_code in GAVE_UP else FREE)
        raise await _refusal(reply, teacher, EndpointAccount(teacher, upstream), dict(headers))

    async def _reply(
        self,
        account: EndpointAccount,
        request: httpx.Request,
        teacher: str,
        reservation: Reservation,
    ) -> httpx.Response:
        """The beginning of a reply; without one the reservation is settled."""
        cost = None  # unknown: the teacher may have begun to write
        is_begun = False
        try:
            reply = await self._connected().send(account.sign(request), stream=True)
            is_begun = True
            return reply
        except ConfigError as error:  # names files and variables, which are not the client's
            cost = FREE
            logger.error("%s", error)
            text = f"Teacher {teacher!r} cannot be asked: its key is missing."
            raise Refusal(502, text) from error
        except httpx.HTTPError as error:
            cost = FREE if isinstance(error, NOT_SENT) else None
            if isinstance(error, httpx.TimeoutException):
                raise Refusal(504, f"Teacher {teacher!r} did not answer in time.") from error
            raise Refusal(502, f"Teacher {teacher!r} is out of reach.") from error
        finally:
            if not is_begun:
                reservation.settle(cost)

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:  # in the loop that will use it
            # As many as the replica works on at once; each answer may take minutes.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)
        return self._client

    async def close(self) -> None:
        """End all connections."""
        if self._client is not None:
            await self._client.aclose()


async def _refusal(
    reply: httpx.Response, teacher: str, account: EndpointAccount, headers: dict[str, str]
) -> Refusal:
    """What a teacher says no with, in our form: a client learns nothing of us and our account."""
    status = reply.status_code
    try:
        if status not in SPEAKS_TO_CLIENT:
            return Refusal(502, f"Teacher {teacher!r} answered with {status}.")
        text = f"Teacher {teacher!r} answered with {status}."
        if status in OF_THE_REQUEST and (said := await _complaint(reply)):
            text = f"Teacher {teacher!r} refuses the request: {account.clean(said)}"
        if "retry-after" in reply.headers:
            headers["retry-after"] = reply.headers["retry-after"]
        return Refusal(status, text, headers)
    finally:
        await reply.aclose()


async def _complaint(reply: httpx.Response) -> str:
    content = b""
    try:
        async for chunk in reply.aiter_bytes():
            content += chunk
            if len(content) > LONGEST_COMPLAINT:
                return ""
    except httpx.HTTPError:
        return ""
    return wire.complaint(content)


def _ask_for_usage(content: dict[str, object], upstream: UpstreamConfig) -> bool:
    """Let a stream end with its usage; whether the client did not ask for it.

    An `extra_body` that says something of `stream_options` is left as it is.
    """
    options = content.get("stream_options") or {}
    if not content.get("stream") or "stream_options" in upstream.extra_body:
        return False
    if not isinstance(options, dict) or options.get("include_usage") is True:
        return False
    content["stream_options"] = options | {"include_usage": True}
    return True


def _limits(upstream: UpstreamConfig) -> dict[str, dict[str, float]]:
    seconds = upstream.timeout_seconds
    times = {"connect": CONNECT_SECONDS, "read": seconds, "write": seconds, "pool": CONNECT_SECONDS}
    return {"timeout": times}
