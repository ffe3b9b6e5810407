"""Ray Serve deployment of the endpoint: replicas with the router, and a metrics actor.

A replica does it all: HTTP, tokens, one pass of the router for the prompts of many requests. So an
answer crosses no process but Serve's ingress. What may change while it serves (`POLICY`) comes
through `reconfigure`, and is the business of `RouterManager`.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypedDict

import torch
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from persyn_ray import __version__
from persyn_ray.models.chat import Message
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.runtime.metrics_actor import MetricsActor, MetricsReporter
from persyn_ray.runtime.session import worker_environment
from persyn_ray.serving.app import build_app
from persyn_ray.serving.batch_scorer import BatchScorer
from persyn_ray.serving.chat.budget import require_ledger
from persyn_ray.serving.metrics import Counts, Family
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.key_reloader import KeyReloader
from persyn_ray.serving.middleware.rate_limit import Rates
from persyn_ray.serving.route_requests import State, require_teachers
from persyn_ray.serving.router_manager import POLICY, RouterManager
from persyn_ray.serving.router_model import RouterModel, Rows, Scores, content_of, teachers_of
from persyn_ray.serving.router_source import parse_serving, settings_of
from persyn_ray.storage.records import fingerprint

SCALING = {"min_replicas", "max_replicas", "target_ongoing_requests"}
"""Settings that Serve itself acts on; no replica reads them."""
HUNG_SECONDS = 300.0  # of one pass
SPARE_REQUESTS = 64
"""Requests beyond `max_ongoing_requests` that Serve lets through, so that the guard refuses them in
its own words."""


@serve.ingress()
class RouterReplica:
    """One replica: the `Service` of the endpoint's application, put together from its parts."""

    def __init__(self, settings: Mapping[str, object], metrics: DeploymentHandle) -> None:
        _log_with_serve()
        fixed = parse_serving(settings, "the endpoint")
        torch.set_num_threads(max(1, int(fixed.cpus)))
        self.counts, self.waiting_tokens = Counts(), 0
        self._keys, self._scorer = KeyReloader(os.environ), BatchScorer(fixed, self.counts)
        self._router = RouterManager(fixed, self._keys, self._scorer.warm_up)
        rates = Rates(fixed.requests_per_second, fixed.burst)
        name = serve.get_replica_context().replica_id.unique_id
        self._metrics = MetricsReporter(metrics, name, self.counts, rates)
        app = build_app(self)
        self._guard = Guard(app, fixed, self._keys, rates, self.counts, names_answers=False)
        self._tasks: set[asyncio.Task[None]] = set()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._guard

    @property
    def settings(self) -> ServingConfig:
        """The endpoint's settings, those of the router in service included."""
        return self._router.settings

    @property
    def state(self) -> State | None:
        """None until the first router is loaded."""
        return self._router.state

    @property
    def problem(self) -> str | None:
        """What failed last of a change or of reading the keys, until it goes well again."""
        return self._router.problem

    async def reconfigure(self, policy: Mapping[str, object]) -> None:
        """Take another router or other settings of `POLICY`.

        The first router is waited for. Later ones are loaded while the present one answers (Serve
        sends nothing to a replica that is busy here); one that cannot be loaded is refused, said on
        /v1/status, and the present one stays.
        """
        if self.state is None:
            await self._router.load(policy)
            self._start(self._metrics.push_forever())
            self._start(self._keys.watch())
        else:
            self._start(self._router.reload(policy))

    async def read(
        self, model: RouterModel, conversations: Sequence[list[Message]], first: int
    ) -> Rows:
        """Token ids of prompts; see `RouterModel.read`."""
        return await self._scorer.read(model, conversations, first)

    async def score(self, model: RouterModel, rows: Rows, task: str | None = None) -> Scores | None:
        """Scores of prompts, in a pass with other requests' prompts; see `BatchScorer`."""
        return await self._scorer.score(model, rows, task)

    async def everywhere(self) -> tuple[list[Family], int]:
        """Counters of all replicas; see `MetricsReporter`."""
        return await self._metrics.everywhere()

    async def check_health(self) -> None:
        """Fails when a pass has hung, so that Serve replaces the replica."""
        if self._scorer.pass_seconds > HUNG_SECONDS:
            raise RuntimeError(f"A pass of the router takes over {HUNG_SECONDS:g} s.")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _log_with_serve() -> None:
    """The endpoint's lines into Serve's log of the replica."""
    ours = logging.getLogger("persyn_ray.serving")
    ours.handlers = logging.getLogger("ray.serve").handlers
    ours.setLevel(logging.INFO)


def application(args: Mapping[str, object]) -> Application:
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


class Replicas(TypedDict, total=False):
    """Options of a deployment of Serve: a fixed number, or bounds."""

    num_replicas: int
    autoscaling_config: dict[str, float]


def _replicas(settings: ServingConfig) -> Replicas:
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
