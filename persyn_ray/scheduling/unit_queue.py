"""Hands out units of work to workers that pull them: units in, each carried out by one of them.

No worker has a share of its own, so a slow one gets fewer and the last units never wait for it.
What a worker holds when it is lost goes back, before all that waits. Pure bookkeeping: who asks,
and from where, is told by names.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True)
class Worker:
    """One process that pulls units."""

    name: str
    """No other process has had it."""
    actor: str
    """An actor has one process at a time: a new one takes the place of the one before."""
    node: str
    pool: str


@dataclass(frozen=True)
class QueueState:
    """How many units are in which state, as one pool sees them."""

    waiting: int
    held: int
    held_here: int
    """By workers of the pool that asks."""
    done: int
    is_fed: bool
    """Whether more units may come."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do, nor will be."""
        return not (self.waiting or self.held or self.is_fed)


Unit = TypeVar("Unit")


class UnitQueue(Generic[Unit]):
    """Units in the order in which they are handed out.

    Args:
        is_fed: whether units are added later on; `close` ends that.
    """

    def __init__(self, units: Iterable[Unit] = (), is_fed: bool = False) -> None:
        self._units: dict[int, Unit] = {}
        self._waiting: deque[int] = deque()
        self._holder: dict[int, str] = {}
        self._done: set[int] = set()
        self._workers: dict[str, Worker] = {}
        self._draining: frozenset[str] = frozenset()
        self._is_fed = is_fed
        self.add(units)

    def add(self, units: Iterable[Unit]) -> None:
        """Put units behind all that wait."""
        for unit in units:
            number = len(self._units)
            self._units[number] = unit
            self._waiting.append(number)

    def close(self) -> None:
        """No more units come."""
        self._is_fed = False

    def enter(self, worker: Worker) -> None:
        """A process begins to pull; what an earlier one of its actor held goes back."""
        for other in list(self._workers.values()):
            if other.actor == worker.actor:
                self._leave(other)
        self._workers[worker.name] = worker

    def take(self, worker: str) -> tuple[int, Unit] | None:
        """The next unit with its number; None if none waits, or the worker must not begin one."""
        known = self._workers.get(worker)
        if known is None or known.node in self._draining or not self._waiting:
            return None
        number = self._waiting.popleft()
        self._holder[number] = worker
        return number, self._units[number]

    def finish(self, number: int) -> None:
        """A unit's result has arrived, whoever had it last."""
        self._done.add(number)
        self._holder.pop(number, None)
        if number in self._waiting:
            self._waiting.remove(number)

    def lose(self, alive: Collection[str], draining: Collection[str] = ()) -> int:
        """Take note of the nodes there are; returns how many units go back from others.

        Workers on draining nodes finish what they hold and begin nothing.
        """
        self._draining = frozenset(draining)
        gone = [one for one in self._workers.values() if one.node not in alive]
        return sum(self._leave(worker) for worker in gone)

    def leave(self, pool: str) -> int:
        """A pool has ended; returns how many units its workers give back."""
        ended = [one for one in self._workers.values() if one.pool == pool]
        return sum(self._leave(worker) for worker in ended)

    def state(self, pool: str = "") -> QueueState:
        """How many units are in which state."""
        here = {one.name for one in self._workers.values() if one.pool == pool}
        return QueueState(
            waiting=len(self._waiting),
            held=len(self._holder),
            held_here=sum(holder in here for holder in self._holder.values()),
            done=len(self._done),
            is_fed=self._is_fed,
        )

    def _leave(self, worker: Worker) -> int:
        """Forget a worker; its units go back in their order."""
        back = sorted(number for number, holder in self._holder.items() if holder == worker.name)
        for number in back:
            del self._holder[number]
        self._waiting.extendleft(reversed(back))
        del self._workers[worker.name]
        return len(back)
