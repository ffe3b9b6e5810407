"""Middleware around each request: counts it, bounds its time, gives it an id.

What the app receives passes through here one message at a time and what it sends passes at once,
so that neither a body nor a stream is ever held whole.
"""

import asyncio
import json
import logging
import re
import traceback
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.error_response import Refusal, error_body

logger = logging.getLogger(__name__)

Header = tuple[bytes, bytes]
End = Literal["gone", "large", "late"]

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE = 499  # what proxies log for it; nobody receives it
# A connection that is closed on a client which is still sending is reset, and the answer is lost
# with it; so the rest of a refused body is thrown away for a moment.
LINGER_S = 1.0
DISCONNECT: Message = {"type": "http.disconnect"}


class Exchange:
    """A request in progress."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: ServingConfig,
        seconds: float | None = None,
        is_named: bool = True,
    ) -> None:
        """Read the headers; nothing is received or sent yet.

        Args:
            seconds: Until an answer has to begin, by default serving.request_timeout_s.
            is_named: Whether the answer gets `x-request-id` here; Ray Serve adds it by itself.
        """
        self._seconds = settings.request_timeout_s if seconds is None else seconds
        self._is_named = is_named
        self.lingers = True  # over the rest of a refused body; strangers are not waited for
        self.method: str = scope["method"]
        self._given: list[Header] = [(k.lower(), v) for k, v in scope.get("headers") or ()]
        self.request_id = self._request_id()
        self.status: int | None = None  # of the answer, once it has begun
        self._server_receive, self._server_send, self._settings = receive, send, settings
        self._arrived: asyncio.Queue[Message] = asyncio.Queue(1)
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._num_bytes = 0
        self._has_arrived = False  # all of the body
        self._is_gone = False  # the client, as far as the app was told
        self._is_answered = False  # to the end

    def header(self, name: bytes) -> list[bytes]:
        """All values that the client gave."""
        return [value for key, value in self._given if key == name]

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the app answer; it has ended, one way or another, when this returns."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._seconds, self._stop, "late")
        pump = asyncio.create_task(self._pump())
        work = asyncio.create_task(self._work(app, scope))
        try:
            await asyncio.wait({work, self._end}, return_when=asyncio.FIRST_COMPLETED)
            if self._end.done():
                self._halt(work, pump)
                await asyncio.wait({pump})  # one reader at a time
                await self._break_off(self._end.result())
            elif self.status is None:
                await self.refuse(
                    Refusal(500, f"The endpoint failed; its log has request {self.request_id}.")
                )
        finally:
            self._halt(work, pump)
            await asyncio.wait({work, pump})

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, in place of the app."""
        self.status = refusal.status
        content = json.dumps(error_body(refusal.status, refusal.message, refusal.code)).encode()
        told = {"content-type": "application/json", "content-length": str(len(content))}
        headers = [(k.encode(), v.encode()) for k, v in {**told, **refusal.headers}.items()]
        is_cut = refusal.status in (413, 504) and not self._has_arrived
        if is_cut:
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": refusal.status}
        body = {"type": "http.response.body", "body": b"" if self.method == "HEAD" else content}
        try:
            await self._server_send({**start, "headers": self._marked(headers)})
            await self._server_send({**body, "more_body": is_cut and self.lingers})
            if is_cut and self.lingers:
                await self._linger()
                await self._server_send({**body, "body": b"", "more_body": False})
        except Exception as error:
            # The client may be gone, and there is nothing else to tell it.
            logger.info("request %s: no answer (%s)", self.request_id, type(error).__name__)

    async def _work(self, app: ASGIApp, scope: Scope) -> None:
        """Messages of exceptions may quote a prompt and are not logged."""
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            if not self._end.done():  # and not our own doing
                frames = traceback.extract_tb(error.__traceback__)
                places = " < ".join(
                    f"{one.name} {one.filename}:{one.lineno}" for one in frames[::-1]
                )
                logger.error(
                    "request %s failed with %s in %s", self.request_id, type(error).__name__, places
                )

    async def _receive(self) -> Message:
        """The app's side of the body."""
        if self._is_gone or self._end.done():
            return DISCONNECT
        message = await self._arrived.get()
        self._is_gone = message["type"] == "http.disconnect"
        return message

    async def _send(self, message: Message) -> None:
        """The app's side of the answer."""
        if self._end.done():
            raise OSError("The request has ended.")
        is_start = message["type"] == "http.response.start"
        if is_start:
            message = {**message, "headers": self._marked(message.get("headers") or ())}
            if self._deadline is not None:
                self._deadline.cancel()
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_answered = self.status is not None
        try:
            await self._server_send(message)
        except OSError:
            self._stop("gone")
            raise
        if is_start:  # until then it can still be another answer
            self.status = message["status"]

    async def _pump(self) -> None:
        """Bring what the server has to the app, and watch for the end of the connection.

        A message is read before the app asks for it and no more, so that a client that sends faster
        than the app reads is slowed down, and one that leaves is noticed.
        """
        while True:
            try:
                message = await self._server_receive()
            except Exception:  # servers differ in what they raise for a lost connection
                message = DISCONNECT
            if message["type"] == "http.disconnect":
                if not self._is_answered:
                    self._stop("gone")
                await self._arrived.put(message)
                return
            if not self._has_arrived:
                self._num_bytes += len(message.get("body", b""))
                if self._num_bytes > self._settings.max_body_bytes and not self._is_answered:
                    self._stop("large")
                    return
                self._has_arrived = not message.get("more_body", False)
                await self._arrived.put(message)

    def _stop(self, end: End) -> None:
        """The app's answer does not count from here on."""
        if not self._end.done():
            self._end.set_result(end)

    def _halt(self, *tasks: "asyncio.Task[None]") -> None:
        """Cancel, and leave nothing to wait for to an app that does not heed it."""
        self._stop("gone")
        if self._deadline is not None:
            self._deadline.cancel()
        for task in tasks:
            task.cancel()
        with suppress(asyncio.QueueFull):
            self._arrived.put_nowait(DISCONNECT)

    async def _break_off(self, end: End) -> None:
        """A connection whose answer has begun is ended by the server when this returns."""
        if self.status is not None or end == "gone":
            return
        await self.refuse(too_large(self._settings) if end == "large" else _late(self._seconds))

    async def _linger(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (message := await self._server_receive())["type"] == "http.request":
                    if not message.get("more_body", False):
                        return

    def _request_id(self) -> str:
        given = self.header(b"x-request-id")
        if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
            return given[0].decode()
        return uuid.uuid4().hex

    def _marked(self, headers: Iterable[Header]) -> list[Header]:
        """Headers with those that every answer has, and without any that open it to other sites."""
        ours = {
            b"x-content-type-options": b"nosniff",
            b"cache-control": b"no-store",
        }
        if self._is_named:
            ours[b"x-request-id"] = self.request_id.encode()
        kept = [
            (key, value)
            for key, value in headers
            if key.lower() not in ours and not key.lower().startswith(b"access-control-")
        ]
        return kept + list(ours.items())


def too_large(settings: ServingConfig) -> Refusal:
    """Of a body."""
    return Refusal(
        413, f"The body is larger than serving.max_body_bytes, {settings.max_body_bytes} bytes."
    )


def _late(seconds: float) -> Refusal:
    return Refusal(
        504,
        f"The request did not arrive, or its answer did not begin, within {seconds:g} s "
        "(serving.request_timeout_s; serving.chat_timeout_s for chats).",
    )
