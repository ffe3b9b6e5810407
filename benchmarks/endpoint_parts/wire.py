"""HTTP/1.1 over one kept connection, cheap in CPU: the load generator shares two cores with what it
measures, and a full client takes longer for a request than the endpoint does.

Answers end by Content-Length, by chunks or with the connection. No redirects, no TLS.
"""

import asyncio
import json
import re
from typing import Any, NamedTuple

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*(\d+)", re.IGNORECASE)
WITHOUT_BODY = (204, 304)


class Answer(NamedTuple):
    """One answer; `head` is all before the empty line."""

    status: int
    head: bytes
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """What the server asks a client to wait."""
        found = RETRY_AFTER.search(self.head)
        return float(found[1]) if found else None


def post(path: str, body: Any, key: str) -> bytes:
    """A request as it goes over the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def get(path: str, key: str) -> bytes:
    """A request as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def read_answer(buffer: bytearray, is_ended: bool = False) -> tuple[Answer, int] | None:
    """The first answer in what has arrived, and its length in bytes; None while it is incomplete.

    Raises:
        ValueError: what has arrived is no HTTP.
    """
    stop = buffer.find(b"\r\n\r\n")
    if stop < 0:
        return None
    head = bytes(buffer[:stop])
    if not head.startswith(b"HTTP/1."):
        raise ValueError(f"no HTTP answer: {head[:60]!r}")
    status, start = int(head[9:12]), stop + 4
    if 100 <= status < 200 and status != 101:
        rest = read_answer(buffer[start:], is_ended)
        return None if rest is None else (rest[0], rest[1] + start)
    if status in WITHOUT_BODY:
        return Answer(status, head, b""), start
    if CHUNKED.search(head):
        found = _chunks(buffer, start)
        return None if found is None else (Answer(status, head, found[0]), found[1])
    if length := LENGTH.search(head):
        stop = start + int(length[1])
        whole = len(buffer) >= stop
        return (Answer(status, head, bytes(buffer[start:stop])), stop) if whole else None
    return (Answer(status, head, bytes(buffer[start:])), len(buffer)) if is_ended else None


def _chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    while True:
        stop = buffer.find(b"\r\n", start)
        if stop < 0:
            return None
        size = int(bytes(buffer[start:stop]).partition(b";")[0], 16)
        start = stop + 2
        if len(buffer) < start + size + 2:
            return None
        if size == 0:
            return b"".join(parts), start + 2
        parts.append(bytes(buffer[start : start + size]))
        start += size + 2


class Connection(asyncio.Protocol):
    """One connection; requests go one after the other."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None
        self.is_open = False
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int, seconds: float = 10.0) -> "Connection":
        """Connect to this machine.

        Raises:
            OSError: nobody listens, or not in time (TimeoutError).
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes, seconds: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            OSError: the connection ended first, or time did (TimeoutError).
        """
        if self.transport is None or not self.is_open:
            raise ConnectionError("The connection is closed.")
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._waiting
        except BaseException:
            self.close()  # a late answer must not be taken for the next one
            raise
        finally:
            self._waiting = None
        if CLOSE.search(answer.head):
            self.close()
        return answer

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self.buffer += data
        self._deliver(is_ended=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.is_open = False
        self._deliver(is_ended=True)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionError("Closed before the answer."))

    def _deliver(self, is_ended: bool) -> None:
        if self._waiting is None or self._waiting.done():
            return
        try:
            found = read_answer(self.buffer, is_ended)
        except ValueError as error:
            self._waiting.set_exception(ConnectionError(str(error)))
            return
        if found is not None:
            answer, used = found
            del self.buffer[:used]
            self._waiting.set_result(answer)
