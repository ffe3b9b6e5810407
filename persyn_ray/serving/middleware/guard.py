"""Admission control of the endpoint: keys, rates, concurrent requests and sizes.

Nothing but the page, the two probes and the documentation is open to those without a key. The log
has a line for each request, and never a part of a body, a header or an unknown path.
"""

import logging
import math
import time
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.middleware.rate_limit import Rates
from persyn_ray.serving.middleware.request import CLIENT_GONE, Exchange, too_large

logger = logging.getLogger(__name__)

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect"})
CHAT = "/v1/chat/completions"
POSTED = frozenset({"/v1/route", CHAT})
DOCUMENTATION = "/docs/static/"  # what the page /docs loads, below the app's root
KNOWN = OPEN | POSTED | {"/v1/models", "/v1/status", "/metrics"}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
POLICY_VIOLATION = 1008  # of websockets
LONGEST_NUMBER = 18  # digits


class Counts(Protocol):
    """What the guard reports to."""

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request that has ended; status 499 if the client left before the answer."""
        ...


class KeyOwners(Protocol):
    """What the guard asks for keys."""

    def owner(self, key: str) -> str | None:
        """Whose key it is; None for a key that nobody has."""
        ...


class Guard:
    """ASGI middleware around the app. The app finds `owner` (None on open paths) and `request_id`
    in the request's state."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServingConfig,
        keys: KeyOwners,
        rates: Rates,
        counts: Counts,
        names_answers: bool = True,
    ) -> None:
        """`names_answers`: whether answers get `x-request-id` here; Ray Serve adds it by itself."""
        self._app, self._settings = app, settings
        self._keys, self._rates, self._counts = keys, rates, counts
        self._names_answers = names_answers
        self._num_ongoing = 0

    @property
    def num_ongoing(self) -> int:
        """Requests with a key that the app works on now."""
        return self._num_ongoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or request of an ASGI server."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        path = known_path(scope)
        exchange = Exchange(
            scope, receive, send, self._settings, self._seconds(path), self._names_answers
        )
        owner = None
        try:
            is_open = (path in OPEN or path == DOCUMENTATION) and exchange.method in ("GET", "HEAD")
            _admit_method(exchange, path)
            if not is_open:
                owner = self._owner(exchange)
                self._admit(owner)
            exchange.lingers = owner is not None
            self._admit_length(exchange)
            state = {**(scope.get("state") or {}), "owner": owner}
            state["request_id"] = exchange.request_id
            await self._run({**scope, "state": state}, exchange, is_counted=not is_open)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        finally:
            self._report(exchange, path, owner, time.perf_counter() - began)

    def _seconds(self, path: str) -> float:
        settings = self._settings
        return settings.chat_timeout_s if path == CHAT else settings.request_timeout_s

    async def _run(self, scope: Scope, exchange: Exchange, is_counted: bool) -> None:
        self._num_ongoing += is_counted
        try:
            await exchange.run(self._app, scope)
        finally:
            self._num_ongoing -= is_counted

    def _owner(self, exchange: Exchange) -> str:
        given = {value.strip() for value in exchange.header(b"x-api-key")}
        for value in exchange.header(b"authorization"):
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                given.add(key.strip())
        given.discard(b"")
        key = given.pop().decode("latin-1") if len(given) == 1 else ""
        owner = self._keys.owner(key)
        if owner is None:
            problem = "Different keys came" if given else "No key came" if not key else "Wrong key"
            raise Refusal(
                401,
                f"{problem}: send one that serving.keys knows as `Authorization: Bearer KEY` or "
                "`X-API-Key: KEY`.",
                {"www-authenticate": "Bearer"},
            )
        return owner

    def _admit(self, owner: str) -> None:
        wait, settings = self._rates.wait(owner), self._settings
        if wait > 0:
            raise Refusal(
                429,
                f"More requests than serving.requests_per_second, {settings.requests_per_second:g} "
                f"of one key over all replicas (serving.burst {settings.burst}).",
                {"retry-after": str(max(1, math.ceil(wait)))},
            )
        if self._num_ongoing >= settings.max_ongoing_requests:
            raise Refusal(
                429,
                "More requests at once than serving.max_ongoing_requests, "
                f"{settings.max_ongoing_requests} of one replica.",
                {"retry-after": "1"},
            )

    def _admit_length(self, exchange: Exchange) -> None:
        for value in exchange.header(b"content-length"):
            if not value.isdigit():
                raise Refusal(400, "Content-Length has to be the body's number of bytes.")
            digits = value.lstrip(b"0")
            if len(digits) > LONGEST_NUMBER or int(digits or b"0") > self._settings.max_body_bytes:
                raise too_large(self._settings)

    def _report(self, exchange: Exchange, path: str, owner: str | None, seconds: float) -> None:
        status = exchange.status or CLIENT_GONE
        method = exchange.method if exchange.method in METHODS else "other"
        self._counts.request(path, status, seconds)
        logger.info(
            "request %s of %s: %s %s %d in %.1f ms",
            *(exchange.request_id, owner or "-", method, path, status, seconds * 1000),
        )


def known_path(scope: Scope) -> str:
    """The request's path below the app's root, or `other`: metrics keep few labels."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    if path.startswith(DOCUMENTATION):
        return DOCUMENTATION
    return path if path in KNOWN else "other"


def _admit_method(exchange: Exchange, path: str) -> None:
    """No site is told what it may ask from within a browser."""
    if exchange.method == "OPTIONS":
        allowed = "POST" if path in POSTED else "GET"
        raise Refusal(405, "OPTIONS is not answered; CORS is off.", {"allow": allowed})
