"""Reads the token usage of a forwarded answer, plain or streamed, while it passes."""

import json
from collections.abc import AsyncIterator
from typing import Any

from persyn_ray.storage.usage import Usage, billed

MOST_KEPT = 16 * 2**20  # bytes of an answer, or of a line of a stream, that are looked at


class Whole:
    """An answer in one piece."""

    def __init__(self) -> None:
        self._kept = bytearray()

    @property
    def cost(self) -> Usage | None:
        """Tokens billed; None where the answer does not say, or has not come whole."""
        return billed(_fields(self._kept).get("usage"))

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks as they are."""
        async for chunk in chunks:
            if len(self._kept) <= MOST_KEPT:
                self._kept += chunk
            yield chunk


class Stream:
    """A stream of server-sent events, by OpenAI's form: usage comes last, with no choices."""

    def __init__(self, hides_usage: bool) -> None:
        """`hides_usage`: whether that event is kept from a client that did not ask for it."""
        self._hides_usage = hides_usage
        self._usage: Usage | None = None
        self._has_ended = self._skips_blank = False

    @property
    def cost(self) -> Usage | None:
        """Tokens billed; None where the stream does not say, or was cut before its end."""
        return self._usage if self._has_ended else None

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Whole lines, as soon as they are there."""
        begun = b""
        async for chunk in chunks:
            *lines, begun = (begun + chunk).split(b"\n")
            passed = b"".join(line + b"\n" for line in lines if self._goes_on(line))
            if len(begun) > MOST_KEPT:
                passed, begun = passed + begun, b""
            if passed:
                yield passed
        if begun and self._goes_on(begun):
            yield begun

    def _goes_on(self, line: bytes) -> bool:
        """Read a line; whether the client gets it."""
        if self._skips_blank and not line.strip():
            self._skips_blank = False
            return False
        self._skips_blank = False
        if not line.startswith(b"data:"):
            return True
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self._has_ended = True
        if b'"usage"' not in data:
            return True
        event = _fields(data)
        usage = event.get("usage")
        is_last = isinstance(usage, dict) and not event.get("choices")
        if (cost := billed(usage)) is not None:
            self._usage = cost
            self._has_ended = self._has_ended or is_last
        self._skips_blank = is_last and self._hides_usage
        return not self._skips_blank


def _fields(content: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
