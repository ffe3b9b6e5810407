"""Continuous batching of requests: what arrives during a forward pass makes up the next one.

A batch is closed when the worker is free to take it and not before. (One that is closed by a clock
stays small however much is waiting: at 110 requests a second and 20 ms a pass, batches of 1.2
instead of 3.4.) First come, first served; nobody is overtaken because others fit better.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Puts items into batches by their sizes. Of one event loop."""

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[list[Result]]],
        size: Callable[[Item], int],
        max_size: int,
        wait_s: float,
    ) -> None:
        """
        Args:
            work: Results of a batch, in its order; one call at a time.
            size: An item's size. A larger one than max_size makes a batch by itself.
            max_size: Of a batch.
            wait_s: How long the first item waits for company when nothing else is going on.
        """
        self._work, self._size, self._max_size, self._wait_s = work, size, max_size, wait_s
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The item's result; whoever is cancelled before its batch begins costs nothing."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            if self._wait_s:
                await asyncio.sleep(self._wait_s)
            while batch := self._next():
                await self._do(batch)
        finally:
            self._running = None

    async def _do(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:  # it belongs to those who asked
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _next(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        batch, total = [], 0
        while self._waiting:
            item, future = self._waiting[0]
            if not future.done():
                total += self._size(item)
                if batch and total > self._max_size:
                    break
                batch.append((item, future))
            self._waiting.popleft()
        return batch
