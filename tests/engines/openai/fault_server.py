"""An OpenAI-compatible endpoint on a loopback socket whose faults are scripted by the test.

A plan looks at each call and gives the reply, or None for what a sound endpoint would say. The
server notes every call with the times of its own clock, and how many were under way at once.
"""

import asyncio
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

MODELS = ("tiny", "tiny-base", "other")


@dataclass
class Call:
    """One request as the server saw it; `number` counts the prompts, from 0."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    began: float
    ended: float = float("inf")

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass(frozen=True)
class Reply:
    """What to send; `drip` seconds pass between its bytes, `cut` bytes are missing at the end."""

    status: int = 200
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    delay: float = 0.0
    drip: float = 0.0
    cut: int = 0
    is_reset: bool = False


Plan = Callable[[Call], Reply | None]


def answer(call: Call, *, delay: float = 0.0, usage: Any = (7, 5), **fields: Any) -> Reply:
    """The answer to a prompt; further fields replace those of its choice."""
    message = {"role": "assistant", "content": f"answer to {call.prompt}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | fields
    content: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
    if usage is not None:
        content["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Reply(content=json.dumps(content).encode(), delay=delay)


def failure(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error in the usual shape; headers are named with underscores."""
    content = json.dumps({"error": {"message": message, "code": code}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, content, {"Content-Type": "application/json"} | named)


def first(replies: Iterable[Reply | None], then: Plan = lambda call: None) -> Plan:
    """The first prompts get these replies, all others what `then` says."""
    waiting = list(replies)

    def plan(call: Call) -> Reply | None:
        if call.method == "POST" and call.number < len(waiting):
            return waiting[call.number]
        return then(call)

    return plan


class FaultServer:
    """Listens while its `with` block lasts."""

    def __init__(self, plan: Plan = lambda call: None, key: str | None = None) -> None:
        self._plan, self._key = plan, key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.calls: list[Call] = []
        self.num_now = self.peak = 0
        self.base_url = ""

    @property
    def prompts(self) -> list[Call]:
        """The calls that were prompts."""
        return [call for call in self.calls if call.method == "POST"]

    def __enter__(self) -> "FaultServer":
        os.environ.setdefault("NO_PROXY", "127.0.0.1")  # where tests run behind a proxy
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        open_ones = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await self._read(reader)) is not None:
                self.calls.append(call)
                self.num_now += 1
                self.peak = max(self.peak, self.num_now)
                try:
                    await self._send(writer, self._plan(call) or self._sound(call))
                finally:
                    self.num_now -= 1
                    call.ended = self._loop.time()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Call | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        first_line, *lines = head.strip().split("\r\n")
        method, path, _ = first_line.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(content) if content else {}
        return Call(len(self.prompts), method, path, headers, body, self._loop.time())

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        await asyncio.sleep(reply.delay)
        if reply.is_reset:
            # To close a socket that does not linger sends a reset in place of an orderly end.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raise ConnectionResetError
        headers = {"Content-Length": str(len(reply.content))} | reply.headers
        lines = [f"HTTP/1.1 {reply.status} x", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        content = reply.content[: len(reply.content) - reply.cut]
        for start in range(0, len(content), 1 if reply.drip else len(content)):
            writer.write(content[start : start + 1] if reply.drip else content)
            await writer.drain()
            await asyncio.sleep(reply.drip)
        if reply.cut:
            raise ConnectionAbortedError

    def _sound(self, call: Call) -> Reply:
        given = call.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key is not None and given != self._key:
            return failure(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        if call.method == "GET":
            listing = json.dumps({"object": "list", "data": [{"id": name} for name in MODELS]})
            return Reply(content=listing.encode())
        if call.body["model"] not in MODELS:
            return failure(404, f"The model {call.body['model']!r} does not exist.")
        return answer(call)
