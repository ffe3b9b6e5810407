"""Ray Serve deployment of the endpoint: replicas with the router, and a metrics actor.

A replica does it all: HTTP, tokens, one pass of the router for the prompts of many requests. So an
answer crosses no process but Serve's ingress. What may change while it serves (`POLICY`) comes
through `reconfigure`: the new router is loaded beside the old one and takes its place between two
requests.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from persyn_ray import __version__
from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import PersynError
from persyn_ray.models.chat import Message
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.runtime.metrics_actor import MetricsActor
from persyn_ray.runtime.session import worker_environment
from persyn_ray.serving.app import build_app
from persyn_ray.serving.batching import Batcher
from persyn_ray.serving.chat.budget import require_ledger
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.forward_pass import Pass, Passes, size_of
from persyn_ray.serving.metrics import Counts, Family
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.rate_limit import Rates
from persyn_ray.serving.route_requests import State, new_state, require_teachers
from persyn_ray.serving.router_model import RouterModel, Rows, Scores, content_of, teachers_of
from persyn_ray.serving.router_source import parse_serving, settings_of
from persyn_ray.storage.records import fingerprint

logger = logging.getLogger("ray.serve")

POLICY = {
    "masked",
    "prices",
    "prior",
    "upstreams",
    "keys",
    "max_chat_tokens",
    "max_choices",
    "chat_budget",
    "chat_ledger",
}
"""Settings that may change without a new replica, beside the router itself."""
SCALING = {"min_replicas", "max_replicas", "target_ongoing_requests"}
"""Settings that Serve itself acts on; no replica reads them."""
CPU_TOKENS_TOGETHER = 2048
"""Of several requests in a batch: on a CPU larger ones are no faster, and all wait for the last."""
PUSH_SECONDS = 1.0
KEYS_SECONDS = 10.0  # after which a changed file of keys is noticed
HUNG_SECONDS = 300.0  # of one pass
RETRY = {"Retry-After": "1"}
WARMING: list[list[Message]] = [[{"role": "user", "content": "Warm up."}]]
SPARE_REQUESTS = 64
"""Requests beyond `max_ongoing_requests` that Serve lets through, so that the guard refuses them in
its own words."""


@serve.ingress()
class RouterReplica:
    """One replica: the `Service` of the endpoint's application."""

    def __init__(self, settings: dict[str, Any], metrics: DeploymentHandle) -> None:
        self.settings = parse_serving(settings, "the endpoint")
        self.rates = Rates(self.settings.requests_per_second, self.settings.burst)
        self.counts = Counts()
        self.state: State | None = None
        self.waiting_tokens = 0
        self._metrics = metrics
        self._source: tuple[str, str | None] = ("", None)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._reader = ThreadPoolExecutor(1, "reader")  # a tokenizer serves one thread at a time
        self._scorer = ThreadPoolExecutor(1, "scorer")  # and passes stand in line
        self._tasks: set[asyncio.Task[None]] = set()
        _log_with_serve()
        torch.set_num_threads(max(1, int(self.settings.cpus)))
        limit = self.settings.tokens_per_batch
        self._passes = Passes(limit, self.counts)
        together = limit if self.settings.gpus else min(limit, CPU_TOKENS_TOGETHER)
        wait_s = self.settings.batch_wait_s
        self._batched = Batcher(self._score_off_loop, size_of, together, wait_s)
        self._number = 0  # of the latest change
        self._problems: dict[Literal["change", "keys"], str] = {}
        self._changing = asyncio.Lock()
        self._guard = Guard(
            build_app(self),
            self.settings,
            Keys({}),  # nobody, until `reconfigure` says who
            self.rates,
            self.counts,
            names_answers=False,
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._guard

    @property
    def problem(self) -> str | None:
        """What failed last of a change or of reading the keys, until it goes well again."""
        return " ".join(self._problems.values()) or None

    async def reconfigure(self, policy: dict[str, Any]) -> None:
        """Take another router or other settings of `POLICY`.

        The first router is waited for. Later ones are loaded while the present one answers (Serve
        sends nothing to a replica that is busy here); one that cannot be loaded is refused, said on
        /v1/status, and the present one stays.
        """
        self._number += 1
        if self.state is None:
            await self._take(policy, self._number)
            self._start(self._push())
            self._start(self._watch_keys())
        else:
            self._start(self._try(policy, self._number))

    async def _take(self, policy: dict[str, Any], number: int) -> None:
        async with self._changing:
            address, settings = await asyncio.to_thread(self._resolved, policy)
            source = (address, policy.get("content"))
            model = self.state.model if self.state is not None else None
            if model is None or self._source != source:
                model = await asyncio.to_thread(RouterModel, address)
                await self.score(model, await self.read(model, WARMING, 0))
            state, keys = new_state(model, settings), Keys.of(settings, os.environ)
            if number == self._number:  # and no later change has come meanwhile
                self.settings, self._source = settings, source
                self._guard.keys, self.state = keys, state
                self._problems.clear()
                logger.info("Router %s from %s answers.", model.version, address)

    def _resolved(self, policy: dict[str, Any]) -> tuple[str, ServingConfig]:
        """The router's address and all settings: those of a run come from its recipe."""
        given = {name: value for name, value in policy.items() if name in POLICY}
        fixed = self.settings.model_dump(mode="json", exclude=POLICY)
        address, settings = settings_of(policy["router"], fixed | given)
        require_ledger(settings)
        return address, settings

    async def _try(self, policy: dict[str, Any], number: int) -> None:
        try:
            await self._take(policy, number)
        except Exception as error:  # whatever a folder holds, the present router goes on
            problem = cut_secrets(f"The present router stays: {type(error).__name__}: {error}")
            logger.error("%s", problem)
            if number == self._number:  # a later change may have gone well
                self._problems["change"] = problem

    async def _watch_keys(self) -> None:
        """A key that is taken out of the file is let in no longer."""
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            try:
                self._guard.keys = await asyncio.to_thread(Keys.of, self.settings, os.environ)
                self._problems.pop("keys", None)
            except PersynError as error:
                self._problems["keys"] = f"The present keys stay: {error}"
                logger.error("%s", self._problems["keys"])

    async def read(
        self, model: RouterModel, conversations: Sequence[list[Message]], first: int
    ) -> Rows:
        """Token ids of prompts; see `RouterModel.read`."""
        limit = self.settings.max_prompt_tokens
        return await self._off_loop(self._reader, model.read, conversations, limit, first)

    async def score(self, model: RouterModel, rows: Rows) -> Scores | None:
        """Scores of up to `tokens_per_batch` tokens, in a pass with other requests' prompts."""
        return await self._batched(Pass(model, rows))

    async def everywhere(self) -> tuple[list[Family], int]:
        """Counters of all replicas, those of this one as they stand now.

        Raises:
            Refusal: 503 while the metrics actor is out of reach: less than the sum would look like
                a restart to Prometheus.
        """
        try:
            async with asyncio.timeout(2.0):
                await self._metrics.push.remote(self._name, self.counts.snapshot())
                return await self._metrics.everywhere.remote()
        except Exception as error:  # whatever Serve raises while the actor restarts
            logger.warning("The metrics actor is out of reach: %s", error)
            raise Refusal(503, "The replicas' counts are out of reach.", RETRY) from error

    async def check_health(self) -> None:
        """Fails when a pass has hung, so that Serve replaces the replica."""
        if self._passes.seconds > HUNG_SECONDS:
            raise RuntimeError(f"A pass of the router takes over {HUNG_SECONDS:g} s.")

    async def _score_off_loop(self, passes: list[Pass]) -> list[Scores | None]:
        return await self._off_loop(self._scorer, self._passes, passes)

    async def _push(self) -> None:
        while True:
            # Whatever happens while the actor restarts: the next push says the same.
            with contextlib.suppress(Exception):
                num = await self._metrics.push.remote(self._name, self.counts.snapshot())
                self.rates.share(num)
            await asyncio.sleep(PUSH_SECONDS)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _off_loop(pool: ThreadPoolExecutor, do: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, do, *given)


def _log_with_serve() -> None:
    """The endpoint's lines into Serve's log of the replica."""
    ours = logging.getLogger("persyn_ray.serving")
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


def bound(address: str, settings: ServingConfig) -> Application:
    """The application with its settings."""
    require_teachers(settings, teachers_of(address))
    require_ledger(settings)
    fixed = settings.model_dump(mode="json", exclude=POLICY | SCALING)
    policy = settings.model_dump(mode="json", include=POLICY)
    policy |= {"router": address, "content": content_of(address)}
    metrics = serve.deployment(MetricsActor).options(
        version=__version__,  # as below
        _internal=True,
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    router = serve.deployment(RouterReplica).options(
        name="Router",
        # Deployed again with the same fixed settings, replicas are kept and reconfigured. Serve
        # gives this to its own configuration files alone.
        version=fingerprint(fixed | {"package": __version__}),
        _internal=True,
        user_config=policy,
        max_ongoing_requests=settings.max_ongoing_requests + SPARE_REQUESTS,
        # In a burst, all wait here for a moment before the guard has seen one.
        max_queued_requests=settings.max_ongoing_requests + SPARE_REQUESTS,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        health_check_period_s=5,
        # Until its last chat has ended, a replica that is no longer wanted goes on.
        graceful_shutdown_timeout_s=settings.chat_timeout_s,
        ray_actor_options={
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "runtime_env": {"env_vars": worker_environment()},
        },
        **_replicas(settings),
    )
    return router.bind(fixed, metrics.bind())


def _replicas(settings: ServingConfig) -> dict[str, Any]:
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
