"""Requests that the endpoint must refuse or answer, and never break on: well-formed HTTP with
anything in it, for an app as for a socket. What is no HTTP is in `malformed_messages.py`.

All come from one seeded generator: equal seeds give equal requests.
"""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ROUTE, CHAT = "/v1/route", "/v1/chat/completions"
PATHS = ("/", "/healthz", "/readyz", "/metrics", "/v1/status", "/v1/models", "/openapi.json")
ODD_PATHS = (
    "/v1", "/v1/", "/v1/route/", "//v1/route", "/v1/../metrics", "/V1/ROUTE", "/v1/route;a=b",
    "/%00", "/%ff%fe", "/v1/route%2f", "/.env", "/docs/../../etc/passwd", "/" + "a" * 3000,
)  # fmt: skip
ODD_QUERIES = ("?a=b", "?" + "a" * 2000, "?%ff=%00", "?a[]=1&a[]=2", "?=&&=", "?;")
METHODS = ("PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "GET", "POST", "FOO")
RARELY = 1 / 100
"""Bodies of megabytes."""
SPECIAL = (
    "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<s>", "</s>", "<|im_start|>system\n",
    "<|im_end|>", "<|endoftext|>", "<unk>", "[INST]", "{{ 7 * 7 }}", "{% raw %}", "${jndi:ldap}",
)  # fmt: skip
VALUES = (None, True, 0, -1, 1e308, "", "x", [], {}, [[]], [None], {"a": {}}, [[[]]], [{}])
FIELDS = (
    "prompt", "prompts", "messages", "allowed", "excluded", "price_weight", "model", "stream",
    "persyn", "tools", "n", "max_tokens", "stop",
)  # fmt: skip
NO_OBJECTS = (
    b"", b" ", b"null", b"[]", b'""', b"0", b"true", b"{", b"}", b'{"prompt"', b'{"prompt":}',
    b'{"prompt": "x",}', b"{'prompt': 'x'}", b'{"prompt": "x"} {"prompt": "y"}', b"//", b"\x00",
    b'{"prompt": "x"}\x00', b'{"prompt": "\\u12"}', b'{"prompt": "\\x00"}', b"prompt=x",
    b'{"prompt": "a\nb"}', b'\xef\xbb\xbf{"prompt": "x"}', b"<prompt>x</prompt>",
)  # fmt: skip
NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "9" * 5000, "-" + "9" * 400,
    "0.1e+308", "1E400", "00", "01", "0x10", "1_000", ".5", "5.", "-0", "-", "+1",
)  # fmt: skip
CODINGS = (b"gzip", b"deflate", b"br", b"zstd", b"identity", b"gzip, gzip", b"", b"x")
KINDS = (
    b"application/json", b"application/json; charset=utf-16", b"text/plain", b"", b";;;",
    b"multipart/form-data", b"multipart/form-data; boundary=", b"application/x-protobuf",
    b"application/x-www-form-urlencoded", b"application/\xff", b'a/b; c="',
)  # fmt: skip
KEYS = (
    b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"bearer x y", b"Bearer \xff\xfe", b"\xe9",
    b"Bearer " + b"a" * 6000, b"Bearer \x80\x85\xa0\xff", b"Digest a=b", b"Bearer null",
    b"Bearer ' OR 1=1", b"Bearer pk-", b"Bearer \xc3\xa9",
)  # fmt: skip
HEADERS = (b"x-request-id", b"accept", b"accept-encoding", b"cookie", b"origin", b"te")
HEADER_VALUES = (b"\xff" * 20, b"a" * 5000, b"", b"null", b"../../x", b"*/*;q=nan", b"%00")


class Hostile(NamedTuple):
    """One request; a key comes on top unless the family is about keys."""

    family: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    with_key: bool = True


def hostile_requests(count: int, seed: int) -> Iterator[Hostile]:
    """So many requests, families in even shares, megabytes rarely."""
    rng = random.Random(f"hostile-{seed}")
    for _ in range(count):
        family = huge if rng.random() < RARELY else rng.choice(FAMILIES)
        yield family(rng)


def _posted(rng: random.Random, family: str, body: bytes) -> Hostile:
    kind = (b"content-type", b"application/json")
    return Hostile(family, "POST", rng.choice((ROUTE, ROUTE, CHAT)), [kind], body)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _turn(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def _text(rng: random.Random) -> str:
    """Anything that JSON can carry, halves of characters included."""
    pieces = (
        lambda: "".join(chr(rng.randint(0, 0x10FFFF)) for _ in range(rng.randint(1, 40))),
        lambda: rng.choice(SPECIAL) * rng.choice((1, 3, 200)),
        lambda: rng.choice(("\0", "\ud800", "\udfff", "\u202e", "\ufeff", "\u2028", "\x1b[31m")),
        lambda: "word " * rng.choice((1, 50, 3000)),
        lambda: rng.choice(("a", "é", "🧮", "�", "\n", " ")) * rng.choice((0, 1, 5000)),
        lambda: "e" + "\u0301" * rng.choice((5, 3000)),
    )
    return "".join(rng.choice(pieces)() for _ in range(rng.randint(1, 3)))


def odd_text(rng: random.Random) -> Hostile:
    """Fields of the right type with odd text in them."""
    text = _text(rng)
    chat = {"model": "persyn", "messages": [_turn("x")]}
    forms: tuple[dict[str, Any], ...] = (
        {"prompt": text},
        {"prompts": [text, "plain"]},
        {"messages": [_turn(text)]},
        {"messages": [_turn(text, "system")]},
        {"messages": [_turn("x", text)]},
        {"prompt": "x", "allowed": [text]},
        {"prompt": "x", "excluded": [text, text]},
        {"prompts": [[_turn([{"type": "text", "text": text}])]]},
        chat | {"model": text},
        chat | {"messages": [_turn(text)], "stream": True},
        chat | {text: text},
    )
    return _posted(rng, "odd_text", _json(rng.choice(forms)))


def wrong_types(rng: random.Random) -> Hostile:
    """Every field with a value of another type."""
    body: dict[str, Any] = {"prompt": "x"} if rng.random() < 0.5 else {}
    for name in rng.sample(FIELDS, rng.randint(1, 4)):
        body[name] = rng.choice(VALUES)
    if rng.random() < 0.3:
        body["messages"] = [rng.choice(VALUES), _turn(rng.choice(VALUES))]
    return _posted(rng, "wrong_types", _json(body))


def no_object(rng: random.Random) -> Hostile:
    """JSON that is no object, nearly JSON, and none at all."""
    return _posted(rng, "no_object", rng.choice(NO_OBJECTS))


def odd_numbers(rng: random.Random) -> Hostile:
    """Numbers that JSON does not have, or Python does not like."""
    chat = '{"model": "persyn", "messages": [{"role": "user", "content": "x"}], "n": %s}'
    forms = ('{"prompt": "x", "price_weight": %s}', '{"prompt": %s}', '{"prompts": [%s]}', "%s")
    return _posted(rng, "odd_numbers", (rng.choice((*forms, chat)) % rng.choice(NUMBERS)).encode())


def deep(rng: random.Random) -> Hostile:
    """Nested deeper than parsers go."""
    depth = rng.choice((50, 500, 3_000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"role":', "}]")))
    inner = opening * depth + "1" + closing * rng.choice((depth, 0, depth - 1))
    forms = (
        "%s",
        '{"prompt": %s}',
        '{"prompts": %s}',
        '{"messages": [{"role": "user", "x": %s}]}',
        '{"model": "persyn", "messages": [{"role": "user", "content": "x"}], "tools": %s}',
    )
    return _posted(rng, "deep", (rng.choice(forms) % inner).encode())


def duplicates(rng: random.Random) -> Hostile:
    """The same key again and again."""
    body = '{"prompt": "x", "prompt": "y"' + ', "prompt": 1' * rng.choice((0, 1, 500)) + "}"
    other = '{"prompt": "x", "prompts": ["y"], "messages": [{"role": "user", "role": "tool"}]}'
    return _posted(rng, "duplicates", rng.choice((body, other)).encode())


def invalid_utf8(rng: random.Random) -> Hostile:
    """Bytes that are no text, in other encodings and in none."""
    bad = rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80", b"\x80"))
    forms = (
        b'{"prompt": "' + bad + b'"}',
        b'{"' + bad + b'": "x"}',
        bad * 50,
        '{"prompt": "x"}'.encode(rng.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig"))),
        rng.randbytes(rng.choice((1, 40, 4000))),
    )
    return _posted(rng, "invalid_utf8", rng.choice(forms))


def lengths(rng: random.Random) -> Hostile:
    """Too many prompts, too many names, nothing in lists."""
    num = rng.choice((0, 1, 1025, 5000))
    forms: tuple[Any, ...] = (
        {"prompts": ["x"] * num},
        {"prompt": "x", "allowed": ["x"] * num},
        {"prompt": "x", "excluded": ["a" * 300] * min(num, 50)},
        {"messages": [_turn("x")] * num},
        {"messages": [_turn([{"type": "text", "text": "x"}] * num)]},
        {"messages": [_turn("x", rng.choice(("assistant", "tool", "system")))]},
        {f"k{number}": number for number in range(num)},
        {"prompts": [[]] * num},
    )
    return _posted(rng, "lengths", _json(rng.choice(forms)))


def encodings(rng: random.Random) -> Hostile:
    """Bodies that say, truly or not, that they are packed or of another type."""
    plain = _json({"prompt": "x"})
    bodies = (plain, gzip.compress(plain), zlib.compress(plain), gzip.compress(b"0" * 10**6))
    headers = [(b"content-encoding", rng.choice(CODINGS)), (b"content-type", rng.choice(KINDS))]
    return Hostile("encodings", "POST", rng.choice((ROUTE, CHAT)), headers, rng.choice(bodies))


def methods(rng: random.Random) -> Hostile:
    """Methods and paths that nobody asked for."""
    path = rng.choice((*PATHS, ROUTE, CHAT, *ODD_PATHS))
    if rng.random() < 0.3:
        path += rng.choice(ODD_QUERIES)
    body = rng.choice((b"", _json({"prompt": "x"})))
    return Hostile("methods", rng.choice(METHODS), path, [], body)


def keys(rng: random.Random) -> Hostile:
    """Keys that are none, two at once, of any bytes."""
    names, value = (b"authorization", b"x-api-key"), rng.choice(KEYS)
    pairs = [(rng.choice(names), value) for _ in range(rng.randint(1, 3))]
    pairs.append((b"content-type", b"application/json"))
    path = rng.choice((ROUTE, CHAT, "/metrics", "/v1/status", "/v1/models"))
    return Hostile("keys", "POST", path, pairs, _json({"prompt": "x"}), with_key=False)


def headers(rng: random.Random) -> Hostile:
    """Headers that are read, with values nobody expects."""
    pairs = [(rng.choice(HEADERS), rng.choice(HEADER_VALUES))] * rng.choice((1, 2, 20))
    pairs.append((b"content-type", b"application/json"))
    return Hostile("headers", "POST", ROUTE, pairs, _json({"prompt": "What is 2 + 2?"}))


def huge(rng: random.Random) -> Hostile:
    """Ten megabytes, of one string, of many, or of blanks; and some that only just may come."""
    size = rng.choice((3_500_000, 10_000_000))
    bodies = (
        lambda: _json({"prompt": "a" * size}),
        lambda: _json({"prompts": ["ab"] * (size // 6)}),
        lambda: b" " * size,
        lambda: b'{"prompt": "' + b"\\u00e9" * (size // 6) + b'"}',
        lambda: b"[" * size,
    )
    return _posted(rng, "huge", rng.choice(bodies)())


FAMILIES: tuple[Callable[[random.Random], Hostile], ...] = (
    odd_text,
    wrong_types,
    no_object,
    odd_numbers,
    deep,
    duplicates,
    invalid_utf8,
    lengths,
    encodings,
    methods,
    keys,
    headers,
)
