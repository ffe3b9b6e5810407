"""ASGI middleware in front of Ray Serve's proxy.

Serve decodes some headers before any application sees them, and answers 500 where that fails; and
with two of them a client could change how Serve treats it.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

SERVES = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")
READ = (b"x-request-id", b"x-session-id", b"serve_multiplexed_model_id")
"""Of any bytes, but decoded by Serve."""


class PlainHeaders:
    """Drops headers that are Serve's, and those it would stumble over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [one for one in scope["headers"] if _is_plain(*one)]}
        await self.app(scope, receive, send)


def _is_plain(name: bytes, value: bytes) -> bool:
    lower = name.lower().replace(b"-", b"_")
    if not name.isascii() or lower in {one.replace(b"-", b"_") for one in SERVES}:
        return False
    return value.isascii() or lower not in {one.replace(b"-", b"_") for one in READ}


def middlewares() -> list[Middleware]:
    """For RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."""
    return [Middleware(PlainHeaders)]
