"""Actor with the unit queues of all pools of a driver, and the handle by which others use one.

It takes no CPU of the plan and stands beside the driver: where that is lost, so is the run's
attempt, and the next one finds what is open in the run folder.
"""

import threading
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from persyn_ray.scheduling.unit_queue import QueueState, UnitQueue, Worker
from persyn_ray.shards.units import Unit

_boards: dict[str, Any] = {}
_starting = threading.Lock()


class _Board:
    """Queues by key; every call returns at once."""

    def __init__(self) -> None:
        self.queues: dict[str, UnitQueue[Unit]] = {}

    def make(self, key: str, units: list[Unit], is_fed: bool) -> None:
        self.queues[key] = UnitQueue(units, is_fed)

    def drop(self, key: str) -> None:
        self.queues.pop(key, None)

    def call(self, key: str, name: str, *arguments: Any) -> Any:
        return getattr(self.queues[key], name)(*arguments)

    def take(self, key: str, worker: str) -> tuple[int, Unit] | bool:
        """A numbered unit, or whether it is worth asking again."""
        queue = self.queues.get(key)
        if queue is None:
            return False
        found = queue.take(worker)
        return queue.state().is_fed if found is None else found

    def look(
        self, key: str, pool: str, alive: Collection[str], draining: Collection[str]
    ) -> tuple[int, QueueState]:
        queue = self.queues[key]
        return queue.lose(alive, draining), queue.state(pool)


@dataclass(frozen=True)
class QueueHandle:
    """One queue of the board; may be sent to any process."""

    board: Any
    key: str

    def enter(self, worker: Worker) -> None:
        """See `UnitQueue.enter`; returns when it is done."""
        ray.get(self.board.call.remote(self.key, "enter", worker))

    def take(self, worker: str) -> tuple[int, Unit] | bool:
        """A numbered unit; True if one may come later, False if none will."""
        return ray.get(self.board.take.remote(self.key, worker))

    def finish(self, number: int) -> None:
        """See `UnitQueue.finish`; does not wait."""
        self.board.call.remote(self.key, "finish", number)

    def add(self, units: Sequence[Unit]) -> None:
        """See `UnitQueue.add`; does not wait."""
        self.board.call.remote(self.key, "add", list(units))

    def close(self) -> None:
        """See `UnitQueue.close`; does not wait."""
        self.board.call.remote(self.key, "close")

    def leave(self, pool: str) -> int:
        """See `UnitQueue.leave`."""
        return ray.get(self.board.call.remote(self.key, "leave", pool))

    def state(self) -> QueueState:
        """See `UnitQueue.state`."""
        return ray.get(self.board.call.remote(self.key, "state"))

    def look(
        self, pool: str, alive: Collection[str], draining: Collection[str]
    ) -> tuple[int, QueueState]:
        """How many units go back from nodes that are gone, and the state after that."""
        return ray.get(self.board.look.remote(self.key, pool, set(alive), set(draining)))

    def drop(self) -> None:
        """Nobody asks any more."""
        self.board.drop.remote(self.key)


def new_queue(units: Sequence[Unit], is_fed: bool = False) -> QueueHandle:
    """A queue on this driver's board, which is started with the first."""
    handle = QueueHandle(_board(), uuid.uuid4().hex)
    ray.get(handle.board.make.remote(handle.key, list(units), is_fed))
    return handle


def _board() -> Any:
    """The board of this connection to Ray; it ends with it, and not before."""
    context = ray.get_runtime_context()
    with _starting:
        if context.namespace not in _boards:  # which is another one for each connection
            # Not softly: on any other node it could be lost while the driver lives.
            here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
            _boards.clear()
            _boards[context.namespace] = (
                ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
            )
        return _boards[context.namespace]
