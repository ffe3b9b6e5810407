"""Guard of the viewer: requests in; those that only read, under a name of this machine, get on.

A page elsewhere that makes its own name point here (DNS rebinding) would be served under that name;
so names other than those of loopback are refused while the viewer listens on loopback.
"""

import ipaddress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READING = ("GET", "HEAD")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
    "content-security-policy": PAGE_POLICY,
}


class Guard:
    """ASGI middleware; adds headers to every answer that has none of its own."""

    def __init__(self, app: ASGIApp, is_loopback: bool) -> None:
        self.app, self.is_loopback = app, is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                given = {name.lower() for name, _ in headers}
                headers += [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
                message = {**message, "headers": headers}
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if scope["method"] not in READING:
            text = f"{scope['method']} is not allowed: the viewer only reads. Use GET."
            return JSONResponse({"error": text}, 405, {"allow": ", ".join(READING)})
        host = Headers(scope=scope).get("host", "")
        if self.is_loopback and not is_loopback(host_name(host)):
            text = f"Host is {host[:200]!r}; this viewer is reached as localhost or 127.0.0.1."
            return JSONResponse({"error": text}, 421)
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def is_loopback(name: str) -> bool:
    """Whether a name or address is this machine's own."""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
