"""The actor of a pool: builds its work where it runs, then pulls units until none is left."""

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

from persyn_ray.errors import EngineDead, PersynError
from persyn_ray.escaping import visible_logs
from persyn_ray.runtime.actor_pools.unit_board import QueueHandle
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.runtime.metrics import UnitMetrics
from persyn_ray.runtime.placement import Place
from persyn_ray.scheduling.unit_queue import Worker
from persyn_ray.shards.units import Progress, Unit, Work

log = logging.getLogger(__name__)

NONE = -1
"""In place of a unit's number, where there was none to do."""
ASK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """What the actors of one pool are told."""

    build: Callable[[Any], Work]
    queue: QueueHandle
    place: Place
    folder: str
    """The driver's."""
    step: str
    pool: str
    breaker: CircuitBreaker | None
    group: PlacementGroup | None


class PoolWorker:
    """One actor. A call carries out one unit, or none where all are taken.

    What goes wrong comes back as a row: Ray Data's own way wraps the message in several others. An
    actor whose engine has died ends its process, and Ray starts another.
    """

    def __init__(self, task: Task) -> None:
        stand_in(task.folder)
        self.task = task
        self.work: Work | None = None
        self.worker: Worker | None = None
        self.lock, self.entry = threading.Lock(), threading.Lock()
        self.metrics = UnitMetrics(task.step)

    def __call__(self, ticket: dict[str, Any]) -> dict[str, Any]:
        number = NONE
        try:
            taken = self._take()
            if taken is None:
                return _row(Progress(), NONE)
            number, unit = taken
            done = self._ready()(unit)
        except EngineDead as error:
            return self._end_process(error, number)
        except Exception as error:
            log.exception("unit %s failed", number)
            return _row(Progress(), number, describe(error))
        self.metrics.count(done)
        return _row(done, number)

    def __del__(self) -> None:
        close = getattr(self.work, "close", None)
        if close is not None:
            close()

    def _take(self) -> tuple[int, Unit] | None:
        """The next unit; None where none is left, or this actor's node is about to go."""
        with self.entry:
            if self.worker is None:
                context = ray.get_runtime_context()
                actor, node = context.get_actor_id() or "", context.get_node_id()
                self.worker = Worker(uuid.uuid4().hex, actor, node, self.task.pool)
                self.task.queue.enter(self.worker)
        while True:
            found = self.task.queue.take(self.worker.name)
            if not isinstance(found, bool):
                return found
            if not found:
                return None
            time.sleep(ASK_AGAIN_SECONDS)

    def _ready(self) -> Work:
        with self.lock:
            if self.work is None:
                if self.task.breaker is not None and self.worker is not None:
                    self.task.breaker.start(f"{self.worker.actor}-{self.worker.node}")
                _limit_threads(self.task.place.threads)
                self.work = self.task.build(self.task.group)
            return self.work

    def _end_process(self, error: EngineDead, number: int) -> dict[str, Any]:
        """End this process, unless it was one death too many: then say so."""
        log.exception("the engine died")
        breaker = self.task.breaker
        if breaker is None or self.work is None:
            return _row(Progress(), number, describe(error))
        try:
            breaker.died(error)
        except EngineDead as last:
            return _row(Progress(), number, describe(last))
        os._exit(1)


def _row(done: Progress, number: int, failure: str = "") -> dict[str, Any]:
    return {**done.as_row(), "unit": number, "failure": failure}


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def describe(error: BaseException) -> str:
    """What went wrong, without Ray's wrapping: our messages as they are, others with their type."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PersynError):
            return str(cause)
        inner = getattr(cause, "cause", None) or cause.__cause__
        if inner is None and not str(cause):  # Ray Data hides some errors behind an empty one
            inner = cause.__context__
        if not isinstance(inner, BaseException) or inner is cause:
            return f"{type(cause).__name__}: {cause}"
        cause = inner
    return str(error)


def stand_in(folder: str) -> None:
    """Make relative paths mean the same in a worker as in the driver, and its logs safe to show."""
    visible_logs()
    if os.path.isdir(folder):
        os.chdir(folder)
