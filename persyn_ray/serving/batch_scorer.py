"""Reads and scores prompts off the event loop: one thread tokenises, one runs batched passes."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from persyn_ray.models.chat import Message
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.batching import Batcher
from persyn_ray.serving.forward_pass import Pass, Passes, size_of
from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.router_model import RouterModel, Rows, Scores

CPU_TOKENS_TOGETHER = 2048
"""Of several requests in a batch: on a CPU larger ones are no faster, and all wait for the last."""
WARMING: list[list[Message]] = [[{"role": "user", "content": "Warm up."}]]


class BatchScorer:
    """Serves any number of requests, and routers beside each other. Of one event loop."""

    def __init__(self, settings: ServingConfig, counts: Counts) -> None:
        """Starts no thread before the first prompt."""
        self._max_prompt_tokens = settings.max_prompt_tokens
        self._reader = ThreadPoolExecutor(1, "reader")  # a tokenizer serves one thread at a time
        self._scorer = ThreadPoolExecutor(1, "scorer")  # and passes stand in line
        limit = settings.tokens_per_batch
        self._passes = Passes(limit, counts)
        together = limit if settings.gpus else min(limit, CPU_TOKENS_TOGETHER)
        self._batched = Batcher(self._score_batch, size_of, together, settings.batch_wait_s)

    async def read(
        self, model: RouterModel, conversations: Sequence[list[Message]], first: int
    ) -> Rows:
        """Token ids of prompts; see `RouterModel.read`."""
        limit = self._max_prompt_tokens
        return await _off_loop(self._reader, model.read, conversations, limit, first)

    async def score(self, model: RouterModel, rows: Rows, task: str | None = None) -> Scores | None:
        """Scores of up to `tokens_per_batch` tokens of one task, in a pass with other requests'
        prompts; None where the router fails on them."""
        return await self._batched(Pass(model, rows, task))

    async def warm_up(self, model: RouterModel) -> None:
        """Run a prompt through a router, so that its first request does not wait for start-up."""
        await self.score(model, await self.read(model, WARMING, 0))

    @property
    def pass_seconds(self) -> float:
        """How long the pass at work has taken so far; 0 if there is none."""
        return self._passes.seconds

    async def _score_batch(self, passes: list[Pass]) -> list[Scores | None]:
        return await _off_loop(self._scorer, self._passes, passes)


async def _off_loop(pool: ThreadPoolExecutor, do: Callable[..., Any], *given: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, do, *given)
