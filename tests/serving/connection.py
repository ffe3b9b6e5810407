"""A connection of an ASGI server without a socket, in simulated time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import Message, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Simulated(asyncio.SelectorEventLoop):
    """Time jumps to what comes next; when nothing does, somebody waits in vain."""

    def __init__(self) -> None:
        self.selecting = Instant()
        super().__init__(self.selecting)

    def time(self) -> float:
        return self.selecting.now


class Instant(selectors.DefaultSelector):
    """A wait takes no time but that of its loop."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "a deadlock"
        self.now += timeout
        return super().select(0)


def simulate(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Simulated) as runner:
        runner.run(main)


class Server:
    """A connection with one request, as servers keep them."""

    def __init__(self, send_takes: float = 0.0, raises: bool = False) -> None:
        self.arriving: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[tuple[float, Message]] = []
        self.is_over, self.is_gone = asyncio.Event(), False
        self.num_received, self.num_readers = 0, 0
        self._takes, self._raises = send_takes, raises

    def chunk(self, size: int, more: bool = True) -> None:
        self.arriving.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})

    def leave(self) -> None:
        self.is_gone = True
        self.is_over.set()

    async def receive(self) -> Message:
        self.num_readers += 1
        assert self.num_readers == 1, "two readers at once"
        arrived, over = asyncio.ensure_future(self.arriving.get()), self.is_over.wait()
        try:
            ended = asyncio.ensure_future(over)
            await asyncio.wait({arrived, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if self.is_over.is_set():
                return {"type": "http.disconnect"}
            self.num_received += 1
            return arrived.result()
        finally:
            arrived.cancel()
            self.num_readers -= 1

    async def send(self, message: Message) -> None:
        await asyncio.sleep(self._takes)
        if self.is_gone:
            if self._raises:
                raise OSError("gone")
            return
        kinds = ["http.response.start"] if not self.sent else ["http.response.body"]
        assert not self.is_over.is_set(), "sent after the end"
        assert message["type"] in kinds
        self.sent.append((asyncio.get_running_loop().time(), message))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_over.set()

    @property
    def status(self) -> int | None:
        return self.sent[0][1]["status"] if self.sent else None

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for _, message in self.sent)


class Reported:
    """What the guard counted."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int]] = []

    def request(self, path: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.all.append((path, status))

    @property
    def statuses(self) -> list[int]:
        return [status for _, status in self.all]
