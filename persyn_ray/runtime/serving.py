"""The endpoint on Ray Serve: replicas that hold the router, and a tally of what they count.

A replica does it all: HTTP, tokens, one pass of the router for the prompts of many requests. So an
answer crosses no process but Serve's ingress. What may change while it serves (`POLICY`) comes
through `reconfigure`: the new router is loaded beside the old one and takes its place between two
requests.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from persyn_ray import __version__
from persyn_ray.endpoint.app import build_app
from persyn_ray.endpoint.counting import Counts, Family
from persyn_ray.endpoint.guard import Guard
from persyn_ray.endpoint.keys import Keys
from persyn_ray.endpoint.model import RouterModel, Rows, Scores
from persyn_ray.endpoint.rates import Rates
from persyn_ray.endpoint.routing import State, new_state
from persyn_ray.endpoint.source import parse_serving, settings_of
from persyn_ray.errors import PersynError
from persyn_ray.models.chat import Message
from persyn_ray.records import fingerprint
from persyn_ray.runtime.session import worker_environment
from persyn_ray.runtime.tally import Tally
from persyn_ray.serving import Serving

logger = logging.getLogger("ray.serve")

POLICY = {"masked", "prices", "prior", "upstreams"}
"""Settings that may change without a new replica, beside the router itself."""
PUSH_SECONDS = 1.0
SPARE_REQUESTS = 64
"""Requests beyond `max_ongoing_requests` that Serve lets through, so that the guard refuses them in
its own words."""


class Pass(NamedTuple):
    """Prompts of one request that wait for the router it began with."""

    model: RouterModel
    rows: Rows


def size_of(passes: list[Pass]) -> int:
    """Tokens of several requests' prompts: what a batch is limited by."""
    return sum(len(row) for one in passes for row in one.rows)


@serve.ingress()
class RouterReplica:
    """One replica: the `Service` of the endpoint's application."""

    def __init__(self, settings: dict[str, Any], tally: DeploymentHandle) -> None:
        self.settings = parse_serving(settings, "the endpoint")
        self.keys = Keys.of(self.settings, os.environ)
        self.rates = Rates(self.settings.requests_per_second, self.settings.burst)
        self.counts = Counts()
        self.state: State | None = None
        self.problem: str | None = None
        self.waiting_tokens = 0
        self._tally = tally
        self._name = serve.get_replica_context().replica_id.unique_id
        self._reader = ThreadPoolExecutor(1, "reader")  # a tokenizer serves one thread at a time
        self._scorer = ThreadPoolExecutor(1, "scorer")  # and passes stand in line
        self._began: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        _log_with_serve()
        torch.set_num_threads(max(1, int(self.settings.cpus)))
        self._batched.set_max_batch_size(self.settings.tokens_per_batch)  # pyright: ignore
        self._batched.set_batch_wait_timeout_s(self.settings.batch_wait_s)  # pyright: ignore

    def __serve_build_asgi_app__(self) -> ASGIApp:
        app = build_app(self)
        return Guard(app, self.settings, self.keys, self.rates, self.counts, names_answers=False)

    async def reconfigure(self, policy: dict[str, Any]) -> None:
        """Take another router or other settings of `POLICY`.

        The first router is waited for. Later ones are loaded while the present one answers; one
        that cannot be loaded is refused, said on /readyz, and the present one stays.
        """
        if self.state is None:
            await self._take(policy)
            self._start(self._push())
        else:
            self._start(self._try(policy))

    async def _take(self, policy: dict[str, Any]) -> None:
        given = dict(policy)
        address = given.pop("router")
        changed = self.settings.model_dump(mode="json", exclude=POLICY) | given
        settings = parse_serving(changed, "the endpoint")
        model = self.state.model if self.state is not None else None
        if model is None or model.address != address:
            model = await asyncio.to_thread(RouterModel, address)
            await self.score(model, await self.read(model, WARMING))
        self.state, self.problem = new_state(model, settings), None
        logger.info("Router %s from %s answers.", model.version, address)

    async def _try(self, policy: dict[str, Any]) -> None:
        try:
            await self._take(policy)
        except (PersynError, OSError) as error:
            self.problem = f"The present router stays: {error}"
            logger.error("%s", self.problem)

    async def read(self, model: RouterModel, conversations: Sequence[list[Message]]) -> Rows:
        """Token ids of prompts; see `RouterModel.read`."""
        limit = self.settings.max_prompt_tokens
        return await self._off_loop(self._reader, model.read, conversations, limit)

    async def score(self, model: RouterModel, rows: Rows) -> Scores | None:
        """Scores of up to `tokens_per_batch` tokens, in a pass with other requests' prompts."""
        one = Pass(model, rows)
        if size_of([one]) > self.settings.tokens_per_batch:  # a single prompt: it goes alone
            return (await self._off_loop(self._scorer, self._score_all, [one]))[0]
        return await self._batched(one)

    async def everywhere(self) -> tuple[list[Family], int]:
        """Counters of all replicas; this one's alone while the tally is out of reach."""
        with contextlib.suppress(Exception):  # whatever Serve raises while the tally restarts
            async with asyncio.timeout(2.0):
                await self._tally.push.remote(self._name, self.counts.snapshot())
                return await self._tally.everywhere.remote()
        return self.counts.snapshot(), 1

    async def check_health(self) -> None:
        """Fails when a pass has hung, so that Serve replaces the replica."""
        if self._began is not None and time.monotonic() - self._began > HUNG_SECONDS:
            raise RuntimeError(f"A pass of the router takes over {HUNG_SECONDS:g} s.")

    @serve.batch(batch_size_fn=size_of)
    async def _batched(self, passes: list[Pass]) -> list[Scores | None]:
        return await self._off_loop(self._scorer, self._score_all, passes)

    def _score_all(self, passes: list[Pass]) -> list[Scores | None]:
        """One pass for all that began with the same router."""
        scores: dict[int, Scores | None] = {}
        self._began = time.monotonic()
        for model in dict.fromkeys(one.model for one in passes):
            places = [place for place, one in enumerate(passes) if one.model is model]
            rows = [row for place in places for row in passes[place].rows]
            found = self._score(model, rows)
            start = 0
            for place in places:
                stop = start + len(passes[place].rows)
                alone = self._score(model, passes[place].rows) if found is None else None
                scores[place] = alone if found is None else found.part(start, stop)
                start = stop
        self._began = None
        return [scores[place] for place in range(len(passes))]

    def _score(self, model: RouterModel, rows: Rows) -> Scores | None:
        began = time.perf_counter()
        try:
            return model.score(rows, self.settings.tokens_per_batch)
        except Exception:  # whatever the model does, other requests shall have their answers
            logger.exception("The router failed on %d prompts.", len(rows))
            return None
        finally:
            seconds = time.perf_counter() - began
            self.counts.batch(len(rows), sum(map(len, rows)), seconds)

    async def _push(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the tally restarts: the next push says the same
                num = await self._tally.push.remote(self._name, self.counts.snapshot())
                self.rates.share(num)
            await asyncio.sleep(PUSH_SECONDS)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _off_loop(pool: ThreadPoolExecutor, do: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, do, *given)


WARMING: list[list[Message]] = [[{"role": "user", "content": "Warm up."}]]
HUNG_SECONDS = 300.0


def _log_with_serve() -> None:
    """The endpoint's lines into Serve's log of the replica."""
    ours = logging.getLogger("persyn_ray.endpoint")
    ours.handlers = logging.getLogger("ray.serve").handlers
    ours.setLevel(logging.INFO)


def application(args: dict[str, Any]) -> Application:
    """The application for Serve's configuration files.

    Args:
        args: `router` (a run, or a router's folder), and any setting of `serving`.

    Raises:
        ConfigError: there is no router, or a setting does not fit.
    """
    given = dict(args)
    address, settings = settings_of(str(given.pop("router", "")), given)
    return bound(address, settings)


def bound(address: str, settings: Serving) -> Application:
    """The application with its settings."""
    fixed = settings.model_dump(mode="json", exclude=POLICY)
    policy = settings.model_dump(mode="json", include=POLICY) | {"router": address}
    tally = serve.deployment(Tally).options(
        num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    router = serve.deployment(RouterReplica).options(
        name="Router",
        # Deployed again with the same fixed settings, replicas are kept and reconfigured. Serve
        # gives this to its own configuration files alone.
        version=fingerprint(fixed | {"package": __version__}),
        _internal=True,
        user_config=policy,
        max_ongoing_requests=settings.max_ongoing_requests + SPARE_REQUESTS,
        max_queued_requests=settings.max_ongoing_requests,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        health_check_period_s=5,
        ray_actor_options={
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "runtime_env": {"env_vars": worker_environment()},
        },
        **_replicas(settings),
    )
    return router.bind(fixed, tally.bind())


def _replicas(settings: Serving) -> dict[str, Any]:
    if settings.min_replicas == settings.max_replicas:
        return {"num_replicas": settings.max_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.target_ongoing_requests,
            "upscale_delay_s": 5,
            "downscale_delay_s": 300,
        }
    }
