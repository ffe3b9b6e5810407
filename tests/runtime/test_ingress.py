"""What Serve would stumble over does not reach it."""

import asyncio

import pytest

from persyn_ray.runtime.ingress import middlewares


def passed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append(scope)

    (middleware,) = middlewares()
    wrapped = middleware.cls(app, *middleware.args, **middleware.kwargs)
    asyncio.run(wrapped({"type": "http", "headers": headers}, None, None))
    return seen[0]["headers"]


@pytest.mark.parametrize(
    "header",
    [
        (b"x-request-id", b"\xff"),
        (b"x-session-id", b"\xff"),
        (b"X-Request-Timeout-Seconds", b"1"),
        (b"x-request-disconnect-disabled", b"?1"),
        (b"x_request_timeout_seconds", b"1"),
        (b"serve-multiplexed-model-id", b"\xff"),
    ],
)
def test_serves_headers_and_what_it_cannot_read_are_dropped(header):
    kept = [(b"x-request-id", b"abc"), (b"authorization", b"\xff"), (b"host", b"h")]
    assert passed([*kept, header]) == kept
