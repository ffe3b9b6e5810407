"""Client of the router's endpoint: synchronous, asynchronous, and for Ray Data.

    with RouterClient("http://127.0.0.1:8000") as router:
        routes = router.route(["What is 17 * 3?", [{"role": "user", "content": "Sort 3 1 2"}]])

The key comes from the environment variable PERSYN_API_KEY unless given. To route is to read, so
whatever may pass (broken connections, time-outs, 429, 502, 503, 504) is asked again, later and
later, and not before a Retry-After; other refusals raise RouterError at once.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Self, TypedDict

import httpx

from persyn_ray.client.batch_columns import Batch, prompts_in, with_routes
from persyn_ray.client.connections import tls_context
from persyn_ray.client.protocol import (
    BATCH_PROMPTS,
    Access,
    JsonObject,
    Message,
    Prompt,
    Route,
    RouterError,
    bodies,
)
from persyn_ray.errors import ConfigError

__all__ = ["AsyncRouterClient", "Message", "Route", "RouteBatches", "RouterClient", "RouterError"]

JSON = {"Content-Type": "application/json"}


class RouterClient:
    """One endpoint; may be shared by threads.

    `timeout` is in seconds, for the connection and for each silence; `retries` come on top of the
    first attempt of each request, `batch_prompts` is the most that one request holds.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        batch_prompts: int = BATCH_PROMPTS,
    ) -> None:
        self._access = Access.of(base_url, api_key, retries)
        self._batch_prompts = batch_prompts
        self._http = httpx.Client(headers=self._access.headers, **_manner(timeout))

    def route(
        self,
        prompts: str | Sequence[Prompt],
        *,
        allowed: Sequence[str] | None = None,
        excluded: Sequence[str] | None = None,
        price_weight: float | None = None,
        task: str | None = None,
    ) -> list[Route]:
        """One route a prompt, in their order; any number of prompts, also none.

        `price_weight` is in logits per dollar per million response tokens; `task` is the label of
        all prompts, for a router whose kind goes by tasks. Raises RouterError.
        """
        choice = {
            "allowed": allowed,
            "excluded": excluded,
            "price_weight": price_weight,
            "task": task,
        }
        routes: list[Route] = []
        for number, body in bodies(_listed(prompts), self._batch_prompts, choice):
            response = self._ask("POST", "/v1/route", body)
            routes += self._access.routes(response, number)
        return routes

    def status(self) -> JsonObject:
        """What the endpoint says of itself: router, teachers, shares since start, replicas."""
        return self._access.parsed(self._ask("GET", "/v1/status"))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        for attempt in count():
            try:
                outcome = self._http.request(
                    method, self._access.base_url + path, content=body, headers=JSON
                )
            except httpx.RequestError as error:
                outcome = error
            pause = self._access.pause(attempt, outcome)
            if isinstance(outcome, httpx.Response) and pause is None:
                return outcome
            time.sleep(pause or 0.0)
        raise AssertionError("unreachable")


class AsyncRouterClient:
    """The same for an event loop, with up to `concurrency` requests of a call under way at once."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        batch_prompts: int = BATCH_PROMPTS,
        concurrency: int = 4,
    ) -> None:
        self._access = Access.of(base_url, api_key, retries)
        self._batch_prompts = batch_prompts
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}; 1 or more would be right.")
        self._concurrency = concurrency
        self._http = httpx.AsyncClient(headers=self._access.headers, **_manner(timeout))

    async def route(
        self,
        prompts: str | Sequence[Prompt],
        *,
        allowed: Sequence[str] | None = None,
        excluded: Sequence[str] | None = None,
        price_weight: float | None = None,
        task: str | None = None,
    ) -> list[Route]:
        """See `RouterClient.route`. The first error cancels what else is under way."""
        choice = {
            "allowed": allowed,
            "excluded": excluded,
            "price_weight": price_weight,
            "task": task,
        }
        requests = enumerate(bodies(_listed(prompts), self._batch_prompts, choice))
        parts: dict[int, list[Route]] = {}

        async def work() -> None:
            for place, (number, body) in requests:
                response = await self._ask("POST", "/v1/route", body)
                parts[place] = self._access.routes(response, number)

        await _all([asyncio.create_task(work()) for _ in range(self._concurrency)])
        return [route for place in sorted(parts) for route in parts[place]]

    async def status(self) -> JsonObject:
        """See `RouterClient.status`."""
        return self._access.parsed(await self._ask("GET", "/v1/status"))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        for attempt in count():
            try:
                outcome = await self._http.request(
                    method, self._access.base_url + path, content=body, headers=JSON
                )
            except httpx.RequestError as error:
                outcome = error
            pause = self._access.pause(attempt, outcome)
            if isinstance(outcome, httpx.Response) and pause is None:
                return outcome
            await asyncio.sleep(pause or 0.0)
        raise AssertionError("unreachable")


class RouteBatches:
    """Routes a data set of Ray Data through an endpoint, a batch at a time.

        data.map_batches(
            RouteBatches,
            fn_constructor_kwargs={"base_url": "http://router:8000", "prompt_column": "question"},
            concurrency=4,
        )

    Adds the columns teacher, margin, is_novel, fallback and router (its version). The column of
    prompts may hold texts or conversations, lists of messages with role and content. Batches may be
    of any format; with `batch_format="pyarrow"` conversations keep their Arrow type, which others
    lose. A row whose prompt is null or without text gets null in all these columns (NaN where the
    format has no other null) and costs no request; a prompt the endpoint refuses fails its batch.

    The key is best left to the variable PERSYN_API_KEY of the workers: what is given here travels
    with the plan of the data set. `retries` outlast a rollout of the endpoint, some three minutes.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        prompt_column: str = "prompt",
        *,
        allowed: Sequence[str] | None = None,
        excluded: Sequence[str] | None = None,
        price_weight: float | None = None,
        timeout: float = 60.0,
        retries: int = 10,
        batch_prompts: int = BATCH_PROMPTS,
    ) -> None:
        self._column = prompt_column
        self._choice = {"allowed": allowed, "excluded": excluded, "price_weight": price_weight}
        self._address = base_url, api_key
        self._manner = {"timeout": timeout, "retries": retries, "batch_prompts": batch_prompts}
        self._client: RouterClient | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Raises DataError for a column that is missing or holds no prompts, and RouterError."""
        prompts = prompts_in(batch, self._column)
        if self._client is None:
            self._client = RouterClient(*self._address, **self._manner)
        asked = [prompt for prompt in prompts if prompt is not None]
        given = iter(self._client.route(asked, **self._choice))
        return with_routes(batch, [None if p is None else next(given) for p in prompts])

    def __getstate__(self) -> dict[str, object]:
        """Without connections: each process opens its own."""
        return {**self.__dict__, "_client": None}


def _listed(prompts: str | Sequence[Prompt]) -> Sequence[Prompt]:
    return [prompts] if isinstance(prompts, str | Mapping) else prompts


class Manner(TypedDict):
    """How a client connects."""

    timeout: httpx.Timeout
    verify: ssl.SSLContext


def _manner(seconds: float) -> Manner:
    """To wait for a free connection of one's own is no failure."""
    return {"timeout": httpx.Timeout(seconds, pool=None), "verify": tls_context()}


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all; the first error ends the others before it is raised."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
