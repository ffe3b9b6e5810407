"""Answers /v1/route: a request's prompts in, routes out; decides on fallbacks, counts."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from persyn_ray.engines.openai import account
from persyn_ray.errors import ConfigError
from persyn_ray.models.chat import Message
from persyn_ray.recipe.serving import ServingConfig, UpstreamConfig
from persyn_ray.serving.chat.budget import chat_accounts
from persyn_ray.serving.chat.limits import require_limits
from persyn_ray.serving.error_response import RETRY_SOON, Refusal
from persyn_ray.serving.messages import Route, Wish
from persyn_ray.serving.metrics import Counts, Family
from persyn_ray.serving.router_model import RouterModel, Rows, Scores
from persyn_ray.serving.routes import Policy, choose, fall_back, keys
from persyn_ray.storage.ledger import Account

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Prompts that are read or decided on in one go: milliseconds."""
USUAL_CHARACTERS_PER_TOKEN = 4  # for what waits and is not read yet


@dataclass(frozen=True)
class State:
    """A router and what is said about its teachers. Replaced as a whole: a request that has begun
    ends with what it began with.
    """

    model: RouterModel
    policy: Policy
    upstreams: dict[str, UpstreamConfig]
    accounts: dict[str, Account]
    """Of the upstreams' chats; empty without a budget."""


class Service(Protocol):
    """What stands behind the endpoint's addresses."""

    counts: Counts
    waiting_tokens: int
    """Of prompts that the router has not answered yet."""

    @property
    def settings(self) -> ServingConfig:
        """The endpoint's settings, those of the router in service included."""
        ...

    @property
    def state(self) -> State | None:
        """None until the first router is loaded."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the latest change of the settings failed; the old ones hold."""
        ...

    async def read(
        self, model: RouterModel, conversations: Sequence[list[Message]], first: int
    ) -> Rows:
        """`RouterModel.read`, off the event loop."""
        ...

    async def score(self, model: RouterModel, rows: Rows, task: str | None = None) -> Scores | None:
        """Scores of up to `tokens_per_batch` tokens of one task, in a pass with other requests'
        prompts; None where the router fails on them."""
        ...

    async def everywhere(self) -> tuple[list[Family], int]:
        """Counters of all replicas together, and how many replicas count.

        Raises:
            Refusal: 503 while they cannot be had.
        """
        ...


def new_state(model: RouterModel, settings: ServingConfig) -> State:
    """A router with the settings about its teachers.

    Raises:
        ConfigError: see `require_teachers`, `chat_accounts`.
    """
    require_teachers(settings, model.teachers)
    prior = settings.prior or model.prior
    policy = Policy(model.teachers, frozenset(settings.masked), settings.prices, prior)
    return State(model, policy, settings.upstreams, chat_accounts(settings))


def require_teachers(settings: ServingConfig, teachers: Sequence[str]) -> None:
    """Refuse settings that do not fit a router.

    Raises:
        ConfigError: one names a teacher that the router does not know, masks all, or is no address
            or limit.
    """
    for field in ("masked", "prices", "prior", "upstreams"):
        for name in getattr(settings, field):
            if name not in teachers:
                raise ConfigError(
                    f"serving.{field} names {name!r}; the router's teachers are {list(teachers)}."
                )
    if set(settings.masked) == set(teachers):
        raise ConfigError("serving.masked leaves no teacher.")
    for name, upstream in settings.upstreams.items():
        account.EndpointAccount(name, upstream)  # raises where an address is none
        require_limits(name, upstream)


def ready(service: Service) -> State:
    """The router in service.

    Raises:
        Refusal: 503 before the first one is loaded.
    """
    if service.state is None:
        raise Refusal(503, "The router is not loaded yet.", RETRY_SOON)
    return service.state


async def find_routes(
    service: Service,
    conversations: Sequence[list[Message]],
    wish: Wish,
    among: Sequence[str] | None = None,
) -> tuple[State, list[str], list[Route]]:
    """The state that answered, who could be chosen, and a route for each prompt.

    Raises:
        Refusal: 422 for a request that cannot be met, 429 when too much is waiting, 503.
    """
    state, settings = ready(service), service.settings
    policy = state.policy
    candidates_M = policy.candidates(wish, among)
    penalties_M = policy.penalties(wish)
    if settings.log_prompts:
        logger.info("prompts: %s", json.dumps(conversations))
    scores = await _scores_in_time(service, state.model, conversations, wish.task)

    def decide() -> list[Route]:
        names = keys(conversations)
        if isinstance(scores, str):
            return fall_back(policy, names, candidates_M, scores)
        scores_PM = scores.logits_PM - penalties_M
        is_ranked = state.model.loss != "regression"
        return choose(policy, names, scores_PM, candidates_M, scores.distances, is_ranked)

    is_small = len(conversations) <= AT_ONCE
    routes = decide() if is_small else await asyncio.to_thread(decide)
    if isinstance(scores, str):
        service.counts.fallback(scores, len(routes))
    for teacher, num in Counter(route.teacher for route in routes).items():
        service.counts.routed(teacher, num)
    names = [name for name, able in zip(policy.teachers, candidates_M, strict=True) if able]
    return state, names, routes


async def _scores_in_time(
    service: Service,
    model: RouterModel,
    conversations: Sequence[list[Message]],
    task: str | None,
) -> Scores | Literal["late", "failed"]:
    """The router's answer, or why there is none."""
    num_tokens = _estimate(conversations)
    waiting, limit = service.waiting_tokens, service.settings.max_waiting_tokens
    if waiting and waiting + num_tokens > limit:
        raise Refusal(
            429,
            f"About {waiting} prompt tokens are waiting for the router; "
            f"serving.max_waiting_tokens is {limit}.",
            RETRY_SOON,
        )
    service.waiting_tokens += num_tokens
    try:
        async with asyncio.timeout(service.settings.answer_within_s):
            rows = await _read(service, model, conversations)
            parts = [
                service.score(model, rows[start:stop], task)
                for start, stop in spans(rows, service.settings.tokens_per_batch)
            ]
            scores = await asyncio.gather(*parts)
    except TimeoutError:
        return "late"
    finally:
        service.waiting_tokens -= num_tokens
    known = [part for part in scores if part is not None]
    return _joined(known) if len(known) == len(scores) else "failed"


def _estimate(conversations: Sequence[list[Message]]) -> int:
    characters = sum(len(turn["content"]) for turns in conversations for turn in turns)
    return characters // USUAL_CHARACTERS_PER_TOKEN + len(conversations)


async def _read(
    service: Service, model: RouterModel, conversations: Sequence[list[Message]]
) -> Rows:
    """Read some prompts at a time: others come in between, and an end of patience ends it."""
    rows: list[Sequence[int]] = []
    for start in range(0, len(conversations), AT_ONCE):
        rows += await service.read(model, conversations[start : start + AT_ONCE], start)
    return rows


def spans(rows: Rows, tokens: int) -> Iterator[tuple[int, int]]:
    """Stretches of prompts with no more than so many tokens, or of one prompt."""
    start, sum_tokens = 0, 0
    for place, row in enumerate(rows):
        if place > start and sum_tokens + len(row) > tokens:
            yield start, place
            start, sum_tokens = place, 0
        sum_tokens += len(row)
    yield start, len(rows)


def _joined(parts: list[Scores]) -> Scores:
    if len(parts) == 1:
        return parts[0]
    distances = [part.distances for part in parts if part.distances is not None]
    return Scores(
        np.concatenate([part.logits_PM for part in parts]),
        [one for part in distances for one in part] if distances else None,
    )
