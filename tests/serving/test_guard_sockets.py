"""The guard behind a real server: what comes over the wire is not always HTTP."""

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.rate_limit import Rates

from .connection import Reported

LIMIT, TIMEOUT = 100_000, 2.5
KEY = {"x-api-key": "key"}
POST = b"POST /v1/route HTTP/1.1\r\nHost: router\r\nX-API-Key: key\r\n"
GET = POST.replace(b"POST /v1/route", b"GET /metrics")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells the size of the body; `/v1/status` streams for as long as anybody listens."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/v1/status":
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


class Running:
    """A server in a thread, on a port that is free."""

    def __init__(self, http: str) -> None:
        self.counts = Reported()
        serving = ServingConfig(max_body_bytes=LIMIT, request_timeout_s=TIMEOUT)
        keys = Keys({"ann": hashlib.sha256(b"key").hexdigest()})
        self.guard = Guard(app, serving, keys, Rates(1e6, 10**6), self.counts)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(self.guard, http=http, lifespan="off", log_config=None)  # type: ignore[arg-type]
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()
        url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=url, trust_env=False, verify=False)

    def say(self, *parts: bytes, pause: float = 0.0) -> int | None:
        """The status that is answered to these bytes, or None if there is no answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                line = connection.makefile("rb").readline()
            except OSError:
                return None
        return int(line.split()[1]) if line else None

    def is_well(self) -> bool:
        answer = self.http.post("/v1/route", content=b"12345", headers=KEY)
        return answer.status_code == 200 and answer.json() == {"size": 5}

    def comes_to(self, num_ongoing: int) -> bool:
        """Soon."""
        until = time.monotonic() + 60
        while self.guard.num_ongoing != num_ongoing and time.monotonic() < until:
            time.sleep(0.01)
        return self.guard.num_ongoing == num_ongoing


@pytest.fixture(scope="module", params=["h11", "httptools"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    found = Running(request.param)
    yield found
    found.http.close()
    found.server.should_exit = True
    found.thread.join(120)


MALFORMED = {
    "bad length": [POST + b"Content-Length: five\r\n\r\n12345"],
    "negative length": [POST + b"Content-Length: -5\r\n\r\n12345"],
    "endless length": [POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n12345"],
    "two lengths": [POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"],
    "length and chunks": [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"
    ],
    "no host": [b"GET /metrics HTTP/1.1\r\nX-API-Key: key\r\n\r\n"],
    "bytes in a header": [GET + b"X-Else: \xff\xfe\x80\r\n\r\n"],
    "bytes in the key": [GET + b"Authorization: Bearer \xff\xfe\r\n\r\n"],
    "bytes in the path": [b"GET /\xff\xfe HTTP/1.1\r\nHost: router\r\n\r\n"],
    "escaped bytes": [GET.replace(b"/metrics", b"/%ff%00%0d%0a") + b"\r\n"],
    "two keys": [GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"],
    "many headers": [GET, *(b"X-%d: %s\r\n" % (n, b"v" * 100) for n in range(3000)), b"\r\n"],
    "long header": [GET + b"X-Long: " + b"v" * 300_000 + b"\r\n\r\n"],
    "no chunk": [POST + b"Transfer-Encoding: chunked\r\n\r\nsomething\r\n"],
    "cut chunks": [POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12"],
    "large chunks": [
        POST + b"Transfer-Encoding: chunked\r\n\r\n",
        *[b"4e20\r\n" + b"x" * 20_000 + b"\r\n"] * 9,
    ],
    "slow body": [POST + b"Content-Length: 5\r\n\r\n1", b"2"],
    "old": [GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n"],
    "ancient": [b"GET /metrics\r\n\r\n"],
    "other method": [GET.replace(b"GET", b"BREW") + b"\r\n"],
    "connect": [b"CONNECT router:80 HTTP/1.1\r\nHost: router\r\n\r\n"],
    "upgrade": [GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
    "whole address": [GET.replace(b"/metrics", b"http://elsewhere/docs") + b"\r\n"],
    "encrypted": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n"],
    "expectation": [POST + b"Content-Length: 900000\r\nExpect: 100-continue\r\n\r\n"],
}
EXPECTED = {
    "bytes in a header": 200,
    "bytes in the key": 401,
    "two keys": 401,
    "large chunks": 413,
    "slow body": 504,
    "cut chunks": 504,
    "old": 200,
    "expectation": 413,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_whatever_comes_is_no_internal_error_and_the_server_lives(
    running: Running, name: str
) -> None:
    status = running.say(*MALFORMED[name])
    assert status is None or status == 504 or 200 <= status < 500
    assert name not in EXPECTED or status == EXPECTED[name]
    assert running.is_well()
    assert running.comes_to(0)
    assert 500 not in running.counts.statuses


def test_a_client_that_sends_all_of_a_large_body_reads_the_refusal(running: Running) -> None:
    for _ in range(5):
        answer = running.http.post("/v1/route", content=b"x" * 50 * LIMIT, headers=KEY)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == 413


def test_who_leaves_in_the_middle_leaves_nothing_behind(running: Running) -> None:
    num = len(running.counts.statuses)
    for part in (
        POST + b"Content-Length: 5\r\n\r\n1",
        GET.replace(b"metrics", b"v1/status") + b"\r\n",
    ):
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
            connection.sendall(part)
            assert running.comes_to(1)
        assert running.comes_to(0)
    # Refused bodies of tests before are counted when the last of them has been thrown away.
    assert [one for one in running.counts.statuses[num:] if one != 413] == [499, 200]
    assert running.is_well()


def test_a_connection_is_kept_for_more_requests(running: Running) -> None:
    for _ in range(3):
        assert running.http.post("/v1/route", content=b"1", headers=KEY).status_code == 200
        assert running.http.head("/").status_code == 200
        assert running.http.post("/v1/route", content=b"1").status_code == 401
        assert running.http.options("/").status_code == 405
