"""A teacher's endpoint that remembers what it was asked, and a chat to send there."""

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import Any


class Teacher(BaseHTTPRequestHandler):
    """A teacher's endpoint that remembers what it was asked."""

    asked: list[dict[str, Any]]
    status = 200
    refusal: bytes | None = None
    answer: bytes | None = None
    usage: Any = None
    missing = 0  # bytes that are promised and do not come
    pause = 0.0  # seconds before the answer, or after the beginning of a stream

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"authorization": self.headers.get("Authorization")})
        said = {"choices": [{"message": {"content": "hello"}}]}
        content = json.dumps(said | ({"usage": self.usage} if self.usage else {})).encode()
        if body.get("stream"):
            content = b'data: {"choices": [{"delta": {"content": "he"}}]}\n\ndata: [DONE]\n\n'
        content = self.answer if self.answer is not None else content
        if self.refusal is not None:
            content = self.refusal
        if not body.get("stream"):
            time.sleep(self.pause)
        self.send_response(self.status)
        self.send_header("Retry-After", "7")
        kind = "text/event-stream" if body.get("stream") else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) + self.missing))
        self.end_headers()
        self.wfile.write(content)
        if body.get("stream"):
            self.wfile.flush()
            time.sleep(self.pause)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def upstream(teacher: Any, **given: Any) -> dict[str, Any]:
    return {"model": "real-name", "base_url": teacher.address, "api_key_env": None} | given


CHAT = {
    "model": "persyn",
    "messages": [{"role": "user", "content": "hi", "name": "me"}],
    "temperature": 0.5,
}
