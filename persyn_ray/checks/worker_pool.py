"""Pool of worker processes that each answer one question at a time, lent to threads in turn."""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Stoppable(Protocol):
    """A process that is started when it is first asked."""

    def stop(self) -> None:
        """Kill it, if it runs; a later question would start it anew."""


_Worker = TypeVar("_Worker", bound=Stoppable)
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class WorkerPool(Generic[_Worker]):
    """Some workers; whoever asks waits until one is idle."""

    def __init__(self, workers: Sequence[_Worker]) -> None:
        self.workers = tuple(workers)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)

    @contextmanager
    def lend(self) -> Iterator[_Worker]:
        """A worker that nobody else asks meanwhile."""
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def map(self, function: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
        """Answers in order, of as many threads as there are workers."""
        if len(self.workers) == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(len(self.workers)) as threads:
            return list(threads.map(function, items))

    def close(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.stop()
