"""Whom the guard lets in, and what it tells the others. Through httpx, without a socket."""

import asyncio
import hashlib
import json
import logging
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard, known_path
from persyn_ray.serving.middleware.rate_limit import Rates

from .connection import App, Reported

KEYS = Keys({name: hashlib.sha256(f"key-{name}".encode()).hexdigest() for name in ("ann", "bob")})
ANN = {"authorization": "Bearer key-ann"}
OPEN = ["/", "/healthz", "/readyz", "/openapi.json", "/docs"]
CLOSED = ["/v1/route", "/v1/chat/completions", "/v1/models", "/v1/status", "/metrics", "/else"]


async def answer(send: Send, content: bytes = b"{}", headers: tuple[Any, ...] = ()) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": content})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    state = {key: scope["state"][key] for key in ("owner", "request_id")}
    await answer(send, json.dumps({**state, "size": len(body)}).encode())


def guarded(
    app: App = echo, burst: int = 1000, rate: float = 1000.0, **settings: object
) -> tuple[Guard, Reported]:
    counts = Reported()
    serving = ServingConfig.model_validate(
        {"burst": burst, "requests_per_second": rate, "max_body_bytes": 2000, **settings}
    )
    return Guard(app, serving, KEYS, Rates(rate, burst, lambda: 0.0), counts), counts


def client(guard: Guard) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://router")


def ask(guard: Guard, method: str, path: str, **given: Any) -> httpx.Response:
    async def one() -> httpx.Response:
        async with client(guard) as http:
            return await http.request(method, path, **given)

    return asyncio.run(one())


def error(response: httpx.Response) -> dict[str, Any]:
    (kind, found) = next(iter(response.json().items()))
    assert kind == "error"
    assert set(found) == {"message", "type", "code"}
    assert found["code"] == response.status_code
    return found


@pytest.mark.parametrize("path", OPEN)
def test_the_page_the_probes_and_the_documentation_are_open(path: str) -> None:
    guard, counts = guarded()
    assert ask(guard, "GET", path).json()["owner"] is None
    assert ask(guard, "HEAD", path).status_code == 200
    assert ask(guard, "POST", path).status_code == 401
    assert counts.all == [(path, 200), (path, 200), (path, 401)]


@pytest.mark.parametrize(
    "path", [*CLOSED, "/docs/", "/docs//", "/healthz/x", "/HEALTHZ", "/%2e/docs"]
)
def test_everything_else_needs_a_key(path: str) -> None:
    guard, counts = guarded()
    for method in ("GET", "POST", "DELETE"):
        refused = ask(guard, method, path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "serving.keys" in error(refused)["message"]
        assert ask(guard, method, path, headers=ANN).json()["owner"] == "ann"
    assert {name for name, _ in counts.all} == {path if path in CLOSED[:-1] else "other"}


def test_a_key_comes_in_either_header() -> None:
    guard, _ = guarded()

    def owner(*headers: tuple[str, str]) -> str | None:
        response = ask(guard, "GET", "/v1/models", headers=list(headers))
        return response.json().get("owner")

    assert owner(("Authorization", "bEARER   key-bob ")) == "bob"
    assert owner(("X-API-Key", "key-bob")) == "bob"
    assert owner(("X-API-Key", "key-bob"), ("Authorization", "Bearer key-bob")) == "bob"
    assert owner(("X-API-Key", "key-bob"), ("Authorization", "Basic a proxy's own")) == "bob"
    assert owner(("X-API-Key", ""), ("Authorization", "Bearer key-bob")) == "bob"
    assert owner(("X-API-Key", "key-bob"), ("Authorization", "Bearer key-ann")) is None
    assert owner(("Authorization", "Bearer key-bob"), ("Authorization", "Bearer no")) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"key-ann",
        b"Basic key-ann",
        b"Bearer key-ann,key-bob",
        b"\xff",
        b"Bearer \xff\xfe",
        "Bearer kéy-ann".encode(),
        b"Bearer " + b"k" * 10**6,
        b"Bearerkey-ann",
        b"Bearer key-ann\x00",
        b"Bearer KEY-ANN",
        hashlib.sha256(b"key-ann").hexdigest().encode(),
    ],
)
def test_a_malformed_key_is_a_wrong_one(value: bytes) -> None:
    guard, _ = guarded()
    for name in (b"authorization", b"x-api-key"):
        if (name, value) != (b"x-api-key", b"key-ann"):
            headers: Any = [(name, value)]
            assert error(ask(guard, "GET", "/v1/models", headers=headers))["code"] == 401


def test_a_key_may_not_ask_more_often_than_its_rate() -> None:
    guard, _ = guarded(burst=2, rate=0.4)
    ann = [ask(guard, "POST", "/v1/route", headers=ANN) for _ in range(3)]
    assert [one.status_code for one in ann] == [200, 200, 429]
    assert ann[2].headers["retry-after"] == "3"  # 2.5 s
    assert "serving.requests_per_second, 0.4" in error(ann[2])["message"]
    bob = {"x-api-key": "key-bob"}
    assert ask(guard, "POST", "/v1/route", headers=bob).status_code == 200
    assert ask(guard, "GET", "/healthz").status_code == 200


def test_only_so_many_requests_at_once_and_probes_beside_them() -> None:
    opened = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/healthz":
            await opened.wait()
        await answer(send)

    async def crowd() -> list[httpx.Response]:
        async with client(guard) as http:
            asks = [asyncio.create_task(http.get("/v1/models", headers=ANN)) for _ in range(5)]
            await asyncio.sleep(0.01)
            assert guard.num_ongoing == 3
            assert (await http.get("/healthz")).status_code == 200
            opened.set()
            return await asyncio.gather(*asks)

    guard, counts = guarded(slow, max_ongoing_requests=3)
    responses = asyncio.run(crowd())
    assert [one.status_code for one in responses] == [200] * 3 + [429] * 2
    assert responses[4].headers["retry-after"] == "1"
    assert "serving.max_ongoing_requests, 3" in error(responses[4])["message"]
    assert guard.num_ongoing == 0
    assert len(counts.all) == 6


@pytest.mark.parametrize("path", ["/v1/route", "/"])
def test_a_body_over_the_limit_is_refused_announced_or_not(path: str) -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b"x" * 999

    guard, _ = guarded()
    for content in (b"x" * 2001, chunks()):
        refused = ask(guard, "GET", path, headers=ANN, content=content)
        assert refused.status_code == 413
        assert refused.headers["connection"] == "close"
        assert "serving.max_body_bytes, 2000 bytes" in error(refused)["message"]
    assert ask(guard, "GET", path, headers=ANN, content=b"x" * 2000).json()["size"] == 2000


@pytest.mark.parametrize(
    ("length", "status"),
    [("1e3", 400), ("-1", 400), ("", 400), ("²", 400), ("9" * 5000, 413), ("0" * 5000 + "7", 200)],
)
def test_a_length_that_is_no_number_of_bytes(length: str, status: int) -> None:
    guard, _ = guarded()
    headers: Any = [(b"x-api-key", b"key-ann"), (b"content-length", length.encode())]
    assert ask(guard, "POST", "/v1/route", headers=headers, content=b"7").status_code == status


def test_every_answer_carries_the_guards_headers_in_place_of_the_apps() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        theirs = (b"Cache-Control", b"public"), (b"X-Request-Id", b"theirs"), (b"x-other", b"1")
        await answer(send, headers=(*theirs, (b"Access-Control-Allow-Origin", b"*")))

    guard, _ = guarded(app)
    for method, headers in (("GET", {}), ("GET", ANN), ("OPTIONS", {"origin": "http://evil"})):
        sent = {**headers, "x-request-id": "mine-1"}
        response = ask(guard, method, "/v1/models", headers=sent)
        assert response.headers.get_list("x-request-id") == ["mine-1"]
        assert response.headers.get_list("cache-control") == ["no-store"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not any(name.startswith("access-control") for name in response.headers)
        assert response.headers.get("x-other") == ("1" if headers is ANN else None)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", 'a"b', "a\tb"])
def test_a_request_id_that_could_spoil_a_log_is_replaced(given: str) -> None:
    guard, _ = guarded()
    ids = [
        ask(guard, "GET", "/", headers=[(b"x-request-id", given.encode())] * num)  # type: ignore[arg-type]
        for num in (1, 1, 2)
    ]
    assert len({one.headers["x-request-id"] for one in ids}) == 3
    assert all(one.headers["x-request-id"].isalnum() for one in ids)
    assert ids[0].json()["request_id"] == ids[0].headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/v1/route", "/else"])
def test_options_are_not_answered(path: str) -> None:
    guard, counts = guarded()
    refused = ask(guard, "OPTIONS", path, headers={"access-control-request-method": "POST"})
    assert error(refused)["code"] == 405
    assert refused.headers["allow"] == ("POST" if path == "/v1/route" else "GET")
    assert len(counts.all) == 1


def test_a_refused_head_has_no_body() -> None:
    guard, _ = guarded()
    refused = ask(guard, "HEAD", "/v1/models")
    assert refused.status_code == 401
    assert refused.content == b""


def test_the_log_has_a_line_a_request_and_nothing_that_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError(f"cannot read {await receive()}")

    guard, counts = guarded(app)
    with caplog.at_level(logging.DEBUG, "persyn_ray"):
        asked = {"content": b"secret", "headers": {**ANN, "x-request-id": "one"}}
        failed = ask(guard, "POST", "/v1/secret?secret", **asked)
        ask(guard, "SECRET", "/v1/route", headers={"authorization": "Bearer secret"})
    assert error(failed)["code"] == 500
    assert "secret" not in caplog.text.lower()
    failure, line, refused = caplog.messages
    assert "request one failed with ValueError in app" in failure
    assert line.startswith("request one of ann: POST other 500 in ")
    assert " of -: other /v1/route 401 in " in refused
    assert counts.all == [("other", 500), ("/v1/route", 401)]


def test_an_app_that_says_nothing_or_stops_itself_is_a_failure_that_is_told() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None: ...

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    for app in (silent, cancelled):
        guard, counts = guarded(app)
        assert error(ask(guard, "GET", "/v1/models", headers=ANN))["code"] == 500
        assert counts.all == [("/v1/models", 500)]


def test_other_scopes_pass_and_websockets_are_turned_away() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard, counts = guarded(app)
    asyncio.run(guard({"type": "lifespan"}, receive, send))
    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert seen == ["lifespan"]
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert counts.all == []


@pytest.mark.parametrize(
    ("root", "path", "known"),
    [
        ("", "/docs", "/docs"),
        ("/in", "/in/docs", "/docs"),
        ("/in", "/docs", "/docs"),
        ("/in", "/indocs", "other"),
        ("/in", "/in", "other"),
        ("/in", "/in/in/docs", "other"),
    ],
)
def test_paths_are_those_below_the_root(root: str, path: str, known: str) -> None:
    assert known_path({"path": path, "root_path": root}) == known
