"""The endpoint over a router in this process, without Ray, and how to ask it."""

import asyncio
import hashlib
import json
import threading
from typing import Any

import httpx

from persyn_ray.serving.app import build_app
from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.rate_limit import Rates
from persyn_ray.serving.route_requests import new_state
from persyn_ray.serving.router_model import RouterModel
from persyn_ray.serving.router_source import parse_serving

KEY = "pk-of-the-tests"
TEACHERS = ("ada", "bert", "cleo")
# FastAPI hides warnings of its own meanwhile, which `warnings` cannot do in two threads at once.
BUILDING = threading.Lock()


class LocalService:
    """The endpoint's service, each request by itself."""

    def __init__(self, model: RouterModel | None, **given: Any) -> None:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        self.settings = parse_serving({"keys": {"tests": digest}} | given, "the tests")
        self.counts = Counts()
        self.state = None if model is None else new_state(model, self.settings)
        self.problem = None
        self.waiting_tokens = 0
        self.delay = 0.0
        self.fails = False

    async def read(self, model: RouterModel, conversations: Any, first: int) -> Any:
        return model.read(conversations, self.settings.max_prompt_tokens, first)

    async def score(self, model: RouterModel, rows: Any, task: str | None = None) -> Any:
        await asyncio.sleep(self.delay)
        limit, tasks = self.settings.tokens_per_batch, [task] * len(rows)
        return None if self.fails else model.score(rows, limit, tasks)

    async def everywhere(self) -> Any:
        return self.counts.snapshot(), 1

    def transport(self) -> httpx.ASGITransport:
        keys, rates = Keys.of(self.settings, {}), Rates(1e9, 10**9)
        with BUILDING:
            app = build_app(self)
        guard = Guard(app, self.settings, keys, rates, self.counts)
        return httpx.ASGITransport(guard, raise_app_exceptions=True)


def ask(
    service: LocalService, method: str, path: str, body: Any = None, key: str | None = KEY
) -> httpx.Response:
    """One request; a body of bytes goes as it is."""

    async def send() -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        given = {} if body is None else {"content": content(body)}
        async with httpx.AsyncClient(transport=service.transport(), base_url="http://test") as c:
            return await c.request(
                method, path, headers=headers, **(given if body is not None else {})
            )

    return asyncio.run(send())


def content(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
