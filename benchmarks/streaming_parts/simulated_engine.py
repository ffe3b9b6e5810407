"""An engine that only keeps time: a prompt id in, its number of tokens out after as many steps.

A simulation. The engine has a number of slots; every running response writes one token a step, and
a step takes the same time whatever is running, as on a GPU that is bound by reading its weights. A
free slot takes the request that has waited longest, in the step in which it became free: admission
is the engine's own and does not wait for the process around it. One clock serves all slots: the
event loop sleeps until the next step in which a response ends, and a late wake-up moves no step.
"""

import asyncio
import hashlib
import heapq
import math
import time
from collections import deque
from dataclasses import asdict, dataclass
from functools import cache
from statistics import NormalDist
from typing import Any


@dataclass(frozen=True)
class Lengths:
    """Tokens of each response: lognormal, drawn by the prompt's id and the seed alone."""

    log_mean: float = 5.7
    log_sigma: float = 0.75
    least: int = 8
    most: int = 2048
    seed: int = 0

    def of(self, prompt_id: str) -> int:
        """Tokens of the response to a prompt, the same in every process."""
        digest = hashlib.sha256(f"{self.seed}:{prompt_id}".encode()).digest()
        uniform = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
        drawn = math.exp(self.log_mean + self.log_sigma * _normal().inv_cdf(uniform))
        return min(self.most, max(self.least, int(drawn)))


@cache
def _normal() -> NormalDist:
    return NormalDist()


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is like."""

    slots: int = 256
    step_seconds: float = 0.02
    lengths: Lengths = Lengths()


@dataclass
class Recorded:
    """What an engine saw of itself; seconds of its own clock (`time.monotonic`)."""

    first: float | None = None
    """When the first response began."""
    last: float | None = None
    """When the last response so far ended."""
    slot_seconds: float = 0.0
    """Sum over the responses that ended of the time for which they held a slot."""
    responses: int = 0
    tokens: int = 0
    most_running: int = 0
    dry_seconds: float = 0.0
    """Time within the busy window in which nothing ran."""
    late_seconds: float = 0.0
    """Most by which the clock's wake-up was late."""

    def summary(self, slots: int) -> dict[str, Any]:
        """Everything, with the mean number of filled slots from the first start to the last end."""
        window = (self.last or 0.0) - (self.first or 0.0)
        mean = self.slot_seconds / window if window else 0.0
        return asdict(self) | {"seconds": window, "slots_mean": mean, "filled": mean / slots}


class SimulatedEngine:
    """One engine; made and used within one event loop."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.recorded = Recorded()
        self._origin = time.monotonic()
        self._waiting: deque[tuple[int, int, asyncio.Future[None]]] = deque()
        self._running: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._number = 0
        self._changed = asyncio.Event()
        self._clock: asyncio.Task[None] | None = None

    async def generate(self, prompt_id: str) -> int:
        """Wait for a slot, then for as many steps as the response has tokens; returns these."""
        length = self.config.lengths.of(prompt_id)
        if self._clock is None or self._clock.done():
            self._clock = asyncio.create_task(self._keep_time())
        done = asyncio.get_running_loop().create_future()
        now = self._step_now() + 1  # a request joins the step after the one that is going on
        first = self._running[0] if self._running else None
        self._waiting.append((now, length, done))
        self._admit(now)
        if self._running[0] is not first:
            self._changed.set()
        await done
        return length

    @property
    def running(self) -> int:
        """Responses in slots now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    def summary(self) -> dict[str, Any]:
        """What was recorded so far, see `Recorded`."""
        return self.recorded.summary(self.config.slots)

    def _step_now(self) -> int:
        return int((time.monotonic() - self._origin) / self.config.step_seconds)

    def _admit(self, free_at: int) -> None:
        """Give slots that were free by a step to those who wait, no earlier than they came."""
        while self._waiting and len(self._running) < self.config.slots:
            came, length, done = self._waiting.popleft()
            start = max(came, free_at)
            self._number += 1
            heapq.heappush(self._running, (start + length, self._number, start, done))
            self._begin(start)

    def _begin(self, start: int) -> None:
        recorded, at = self.recorded, self._origin + start * self.config.step_seconds
        if recorded.first is None:
            recorded.first = at
        elif len(self._running) == 1 and recorded.last is not None:
            recorded.dry_seconds += max(0.0, at - recorded.last)
        recorded.most_running = max(recorded.most_running, len(self._running))

    async def _keep_time(self) -> None:
        """Sleep from end to end; ends that are due are carried out in the order of their steps."""
        while self._running or self._waiting:
            self._changed.clear()
            due = self._origin + self._running[0][0] * self.config.step_seconds
            wait = due - time.monotonic()
            if wait > 0:
                try:  # an earlier end may come in meanwhile
                    await asyncio.wait_for(self._changed.wait(), wait)
                    continue
                except TimeoutError:
                    pass
            self.recorded.late_seconds = max(self.recorded.late_seconds, time.monotonic() - due)
            self._end_due()
            await asyncio.sleep(0)

    def _end_due(self) -> None:
        now = self._step_now()
        while self._running and self._running[0][0] <= now:
            end, _, start, done = heapq.heappop(self._running)
            step, recorded = self.config.step_seconds, self.recorded
            recorded.last = self._origin + end * step
            recorded.slot_seconds += (end - start) * step
            recorded.responses += 1
            recorded.tokens += end - start
            self._admit(end)
            if not done.done():  # its caller may have been cancelled
                done.set_result(None)
