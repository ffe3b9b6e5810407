"""A router's endpoint on a loopback socket that fails when the test says so.

It answers by the API's contract; `distance` is a checksum of the prompt, so that a test sees
which prompt a route belongs to. Faults are used up in their order, one a request.
"""

import json
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY = "pk-" + "k" * 43
TEACHERS = ["large", "small"]
VERSION = "9f2c41d07ab3"


@dataclass(frozen=True)
class Fault:
    """What to answer instead; status 0 closes the connection without a word."""

    status: int
    message: str = "scripted"
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    delay: float = 0.0
    is_proxys: bool = False
    """Whether what stands before the endpoint says so."""


@dataclass
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    began: float
    ended: float = float("inf")

    @property
    def prompts(self) -> list[Any]:
        return self.body["prompts"]


def checksum(prompt: Any) -> float:
    return float(zlib.crc32(json.dumps(prompt, sort_keys=True).encode()))


def route(prompt: Any) -> dict[str, Any]:
    is_late = prompt == "be late"
    teacher = TEACHERS[int(checksum(prompt)) % 2]
    other = next(name for name in TEACHERS if name != teacher)
    return {
        "teacher": teacher,
        "runner_up": None if is_late else other,
        "margin": None if is_late else 1.5,
        "scores": {} if is_late else {teacher: 0.5, other: -1.0},
        "probabilities": {teacher: 0.8, other: 0.2},
        "is_novel": None if is_late else "novel" in str(prompt),
        "distance": checksum(prompt),
        "fallback": "late" if is_late else None,
    }


class RouterServer:
    """`calls` has every request; `delay` seconds pass before each answer."""

    def __init__(self, *faults: Fault, delay: float = 0.0) -> None:
        self.faults = list(faults)
        self.calls: list[Call] = []
        self.delay = delay
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "RouterServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def most_at_once(self) -> int:
        return max(
            sum(other.began <= call.began < other.ended for other in self.calls)
            for call in self.calls
        )

    def reply(self, call: Call) -> Fault:
        with self._lock:
            self.calls.append(call)
            fault = self.faults.pop(0) if self.faults else None
        if fault:
            time.sleep(fault.delay)
            return fault
        time.sleep(self.delay)
        if call.headers.get("authorization") != f"Bearer {KEY}":
            return Fault(401, "no such key", {"WWW-Authenticate": "Bearer"})
        return Fault(200, content=json.dumps(_answer(call)).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._serve(None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self._serve(json.loads(self.rfile.read(length)))

            def _serve(self, body: Any) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, self.path, headers, body, time.monotonic())
                reply = server.reply(call)
                call.ended = time.monotonic()
                self.close_connection = not reply.status
                if reply.status:
                    self._send(reply)

            def _send(self, reply: Fault) -> None:
                content = reply.content
                if content is None:
                    error = {"message": reply.message, "type": "scripted", "code": reply.status}
                    content = json.dumps({"error": error}).encode()
                self.send_response(reply.status)
                if not reply.is_proxys:
                    self.send_header("X-Request-ID", "7")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler


def _answer(call: Call) -> dict[str, Any]:
    router = {"version": VERSION, "loss": "bradley_terry"}
    if call.path.endswith("/v1/status"):
        return {"router": router, "teachers": TEACHERS, "replicas": 1, "num_routed": 0}
    return {
        "router": router,
        "teachers": TEACHERS,
        "candidates": TEACHERS,
        "routes": [route(prompt) for prompt in call.prompts],
    }
