"""Bytes for a socket that are no HTTP, or only nearly: what well-behaved clients never send.

All come from one seeded generator: equal seeds give equal bytes.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

BODY = b'{"prompt": "x"}'
POST = b"POST /v1/route HTTP/1.1\r\nContent-Type: application/json\r\n"
HEADERS = (
    b"NoColon", b": no name", b"Sp ace: x", b"X: a\x00b", b"X\xff: y", b" folded: x",
    b"X: " + b"a" * 100_000, b"X: a\rb", b"Host: two", b"X: y\nZ: w", b"Upgrade: websocket",
    b"Expect: 100-continue", b"Expect: teapot", b"Connection: close, close, x", b"\t",
    b"Sec-WebSocket-Key: x\r\nUpgrade: websocket\r\nConnection: Upgrade",
)  # fmt: skip
LENGTHS = (
    b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: \xd9\xa3",
    b"Content-Length: " + b"9" * 400, b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 5", b"Content-Length:", b"Content-Length: 0x10",
    b"Content-Length: 15\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked",
    b"Content-Length: +15",
)  # fmt: skip
CHUNKED = (
    b'f\r\n{"prompt": "x"}\r\n0\r\n\r\n', b"zz\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n",
    b"ffffffffffffffff\r\nabc", b"0\r\n\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"\r\n\r\n",
    b"1;" + b"a" * 20_000 + b"\r\n{\r\n0\r\n\r\n", b'1\r\n{\r\n' * 3000 + b"0\r\n\r\n",
    b'f\r\n{"prompt": "x"}\r\n0\r\nX: y\r\n\r\n', b"400000\r\n" + b" " * 0x400000,
)  # fmt: skip


Bytes = tuple[str, bytes, bool]


class Malformed(NamedTuple):
    """Bytes of a connection; where they are not whole, no answer is due."""

    family: str
    content: bytes
    is_whole: bool


def malformed_messages(count: int, seed: int, key: str) -> Iterator[Malformed]:
    """So many connections' bytes."""
    rng = random.Random(f"malformed-{seed}")
    for _ in range(count):
        yield Malformed(*rng.choice(MESSAGES)(rng, _head(key)))


def _head(key: str) -> bytes:
    return f"Host: localhost\r\nAuthorization: Bearer {key}\r\n".encode("latin-1")


def request_lines(rng: random.Random, head: bytes) -> Bytes:
    """First lines that are none."""
    lines = (
        b"", b"GET", b"GET /", b"GET / HTTP/9.9", b"GET / HTTP/1.1 extra", b"get / http/1.1",
        b"G\x00T / HTTP/1.1", b"GET \x00 HTTP/1.1", b"GET /\xff\xfe HTTP/1.1", b"\x16\x03\x01\x02",
        b"GET http://[::1/ HTTP/1.1", b"GET * HTTP/1.1", b"CONNECT localhost:1 HTTP/1.1",
        b"PRI * HTTP/2.0", b"A" * 70_000 + b" / HTTP/1.1", b"GET /" + b"a" * 70_000 + b" HTTP/1.1",
        b"GET  /  HTTP/1.1", b"POST /v1/route HTTP/1.0", b"GET / HTTP/0.9", rng.randbytes(60),
    )  # fmt: skip
    return "request_lines", rng.choice(lines) + b"\r\n" + head + b"\r\n", True


def header_lines(rng: random.Random, head: bytes) -> Bytes:
    """Headers that break the rules."""
    line = rng.choice(HEADERS)
    lines = (line + b"\r\n") * rng.choice((1, 1, 200))
    path = rng.choice((b"/v1/route", b"/metrics", b"/healthz"))
    return "header_lines", b"GET " + path + b" HTTP/1.1\r\n" + head + lines + b"\r\n", True


def body_lengths(rng: random.Random, head: bytes) -> Bytes:
    """Lengths that are wrong, contradictory or no numbers."""
    line = rng.choice(LENGTHS)
    return "body_lengths", POST + head + line + b"\r\n\r\n" + BODY, False


def chunks(rng: random.Random, head: bytes) -> Bytes:
    """Chunked bodies, most of them broken."""
    body = rng.choice(CHUNKED)
    return "chunks", POST + head + b"Transfer-Encoding: chunked\r\n\r\n" + body, False


def cut_off(rng: random.Random, head: bytes) -> Bytes:
    """A good request that ends too early."""
    body = b'{"prompt": "%s"}' % (b"x" * 200)
    whole = POST + head
    whole += f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    return "cut_off", whole[: rng.randint(0, len(whole) - 1)], False


def pipelined(rng: random.Random, head: bytes) -> Bytes:
    """Several requests at once, good and bad."""
    good = POST + head + b"Content-Length: 15\r\n\r\n" + BODY
    other = rng.choice((b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"garbage\r\n\r\n", good))
    return "pipelined", good + other * rng.choice((1, 20)), True


def noise(rng: random.Random, head: bytes) -> Bytes:
    """A good request with bytes changed."""
    whole = bytearray(POST + head + b"Content-Length: 15\r\n\r\n" + BODY)
    for _ in range(rng.choice((1, 3, 20))):
        whole[rng.randrange(len(whole))] = rng.randrange(256)
    return "noise", bytes(whole), False


MESSAGES: tuple[Callable[[random.Random, bytes], Bytes], ...] = (
    request_lines, header_lines, body_lengths, chunks, cut_off, pipelined, noise,
)  # fmt: skip
