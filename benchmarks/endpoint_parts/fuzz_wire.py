"""Hostile requests and malformed messages over sockets; the generators belong to the tests.

    python -m endpoint_parts.fuzz_wire < plan.json    # one JSON line comes out

A plan has `ports` (taken in turns), `key`, `hostile`, `malformed`, `seed`. Each message has a
connection of its own.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

from publishing import ROOT

from endpoint_parts.wire import Answer, read_answer

sys.path.insert(0, str(ROOT / "tests" / "endpoint"))
from hostile_requests import Hostile, hostile_requests
from malformed_messages import malformed_messages

AT_ONCE = 8
HOSTILE_SECONDS, WHOLE_SECONDS, PART_SECONDS, MORE_SECONDS = 60.0, 5.0, 0.5, 0.05
"""How long an answer may take: to a request, to bytes that are no request, to a part of one, and
after a first answer."""


class Sent(NamedTuple):
    """One connection's bytes."""

    family: str
    content: bytes
    seconds: float
    """How long to wait for an answer."""
    is_head: bool = False


@dataclass
class Found:
    """What came back, by family."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    """Answers with 500 and the like."""
    silent: list[dict[str, str]] = field(default_factory=list)
    """Whole requests without any answer."""
    odd_errors: Counter[str] = field(default_factory=Counter)
    """Errors that are not in the form of the others, by family and status."""

    def add(self, sent: Sent, answers: list[Answer], end: str) -> None:
        """One connection has ended."""
        counts = self.statuses.setdefault(sent.family, Counter())
        start = {"family": sent.family, "sent": repr(sent.content[:400])}
        if not answers:
            counts[end] += 1
            if sent.seconds > PART_SECONDS and len(self.silent) < 20:
                self.silent.append(start | {"end": end})
        for answer in answers:
            counts[str(answer.status)] += 1
            if answer.status == 500 and len(self.failures) < 20:
                self.failures.append(start | {"answer": repr(answer.body[:400])})
            if answer.status >= 400 and not sent.is_head and not _in_form(answer):
                self.odd_errors[f"{sent.family} {answer.status}"] += 1


def _in_form(answer: Answer) -> bool:
    try:
        return json.loads(answer.body)["error"]["code"] == answer.status
    except (ValueError, KeyError, TypeError):
        return False


def as_bytes(one: Hostile, key: str) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{one.method} {one.path} HTTP/1.1".encode(), b"Host: localhost"]
    if one.with_key:
        lines.append(f"Authorization: Bearer {key}".encode())
    lines += [name + b": " + value for name, value in one.headers]
    lines += [b"Content-Length: %d" % len(one.body), b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + one.body


def messages(plan: dict[str, Any]) -> Iterator[Sent]:
    """All that is sent."""
    for one in hostile_requests(plan["hostile"], plan["seed"]):
        yield Sent(one.family, as_bytes(one, plan["key"]), HOSTILE_SECONDS, one.method == "HEAD")
    for one in malformed_messages(plan["malformed"], plan["seed"], plan["key"]):
        yield Sent(one.family, one.content, WHOLE_SECONDS if one.is_whole else PART_SECONDS)


async def exchange(port: int, sent: Sent) -> tuple[list[Answer], str]:
    """All answers of a connection, and how it ended."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 30)
    except OSError as error:
        return [], f"connect: {type(error).__name__}"
    writing = asyncio.create_task(_write(writer, sent.content))
    buffer, answers, end = bytearray(), [], "closed"
    try:
        patience = sent.seconds
        while data := await asyncio.wait_for(reader.read(65536), patience):
            buffer += data
            while found := _next(buffer, sent.is_head, False):
                answers.append(found[0])
                del buffer[: found[1]]
                patience = MORE_SECONDS
        if found := _next(buffer, sent.is_head, True):
            answers.append(found[0])
    except TimeoutError:
        end = "time-out"
    except OSError as error:
        end = type(error).__name__
    except ValueError:
        end = "no HTTP"
    finally:
        writing.cancel()
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writing
    return answers, end


async def _write(writer: asyncio.StreamWriter, content: bytes) -> None:
    with suppress(OSError):  # refused before all was sent; the answer tells why
        writer.write(content)
        await writer.drain()


def _next(buffer: bytearray, is_head: bool, is_ended: bool) -> tuple[Answer, int] | None:
    stop = buffer.find(b"\r\n\r\n")
    if is_head and stop >= 0:
        return Answer(int(buffer[9:12]), bytes(buffer[:stop]), b""), len(buffer)
    return read_answer(buffer, is_ended)


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Everything, a few connections at once."""
    found, todo, ports = Found(), messages(plan), cycle(plan["ports"])

    async def work() -> None:
        for sent in todo:
            answers, end = await exchange(next(ports), sent)
            found.add(sent, answers, end)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return {
        "statuses": {family: dict(counts) for family, counts in found.statuses.items()},
        "failures": found.failures,
        "silent": found.silent,
        "errors_in_another_form": dict(found.odd_errors),
    }


def main() -> None:
    os.nice(5)
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
