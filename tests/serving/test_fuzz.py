"""Hundreds of hostile requests at the whole endpoint, without Ray: none is answered with 500, every
refusal is in the one form, and a plain request is answered as before. `benchmarks/endpoint.py`
sends thousands through Serve.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from starlette.types import Message

from persyn_ray.serving.app import build_app

from .asking import KEY, LocalService
from .hostile_requests import Hostile, hostile_requests
from .malformed_messages import malformed_messages

NUM_HOSTILE, NUM_MALFORMED, NUM_OF_SCHEMA = 400, 100, 15
NOBODY = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": None}
PLAIN = Hostile(
    "plain",
    "POST",
    "/v1/route",
    [(b"content-type", b"application/json")],
    b'{"prompt": "What is 3 plus 4?"}',
)


@pytest.fixture
def service(make_service: Any) -> LocalService:
    """Chats go to nobody; larger bodies than these would only take time."""
    return make_service(max_body_bytes=200_000, upstreams={"ada": NOBODY})


async def answer(app: Any, one: Hostile) -> tuple[int, bytes]:
    """Status and body of a request, given to the app as a server would."""
    path, _, query = one.path.partition("?")
    key = [(b"authorization", f"Bearer {KEY}".encode())] if one.with_key else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": one.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*key, *one.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    waiting = [{"type": "http.request", "body": one.body, "more_body": False}]
    sent: list[Message] = []
    ended = asyncio.Event()

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(60):
        await app(scope, receive, send)
    ended.set()
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_hostile_requests_are_refused_or_answered(service: LocalService):
    app = service.transport().app

    async def send_all() -> None:
        before = await answer(app, PLAIN)
        for one in hostile_requests(NUM_HOSTILE, seed=0):
            status, body = await answer(app, one)
            assert status != 500, (one.family, one.path, one.body[:300], body)
            if status >= 400 and one.method != "HEAD":
                assert json.loads(body)["error"]["code"] == status, (one.family, one.body[:300])
        assert await answer(app, PLAIN) == before
        assert before[0] == 200

    asyncio.run(send_all())


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_requests_made_from_the_schema(service: LocalService, mode: GenerationMode):
    schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(service))  # type: ignore[arg-type]
    app, statuses = service.transport().app, set[int]()

    def send(case: Case) -> None:
        parts = case.as_transport_kwargs(base_url="http://test")
        body = parts.get("data") or b""
        if "json" in parts:
            body = json.dumps(parts["json"]).encode()
        content = body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")
        one = PLAIN._replace(method=case.method.upper(), path=case.path, body=content)
        status, said = asyncio.run(answer(app, one))
        statuses.add(status)
        assert status != 500, (case.method, case.path, content[:300], said)

    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() == "POST":
            strategy = operation.as_strategy(generation_mode=mode)
            check = given(case=strategy)(send)
            quick = settings(
                max_examples=NUM_OF_SCHEMA,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            seed(0)(quick(check))()
    assert statuses & {200, 422}


@pytest.fixture
def port(service: LocalService) -> Iterator[int]:
    """The endpoint behind a real server in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(service.transport().app, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(30)
    listener.close()


def test_what_is_no_http_breaks_nothing(port: int):
    for one in malformed_messages(NUM_MALFORMED, 0, KEY):
        said = exchange(port, one.content, 5.0 if one.is_whole else 0.1)
        assert b"HTTP/1.1 500" not in said, (one.family, one.content[:300], said[:300])
    lines = ("POST /v1/route HTTP/1.1", "Host: x", "Connection: close", f"X-API-Key: {KEY}")
    lines += ("Content-Type: application/json", f"Content-Length: {len(PLAIN.body)}", "", "")
    head = "\r\n".join(lines).encode()
    assert exchange(port, head + PLAIN.body, 30.0).startswith(b"HTTP/1.1 200")


def exchange(port: int, content: bytes, seconds: float) -> bytes:
    """What a connection gives for these bytes: until it closes, pauses, or time is up."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, suppress(OSError):
        connection.settimeout(seconds)
        with suppress(OSError):  # refused before all was sent
            connection.sendall(content)
        while data := connection.recv(65536):
            said += data
            connection.settimeout(min(seconds, 0.1))
    return said
