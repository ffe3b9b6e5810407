"""Batches by size: order, fairness, cancellation, and that a busy worker makes them grow."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.serving.batching import Batcher


class Doubling:
    """A worker that remembers its batches, and may be slow or fail."""

    def __init__(self, may_end: asyncio.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self.may_end = may_end
        self.ongoing = 0

    async def __call__(self, items: list[int]) -> list[int]:
        assert self.ongoing == 0, "one batch at a time"
        self.ongoing += 1
        self.batches.append(items)
        await (self.may_end.wait() if self.may_end else asyncio.sleep(0))
        self.ongoing -= 1
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 20))
def test_everybody_gets_its_own_result_in_batches_that_fit(items, max_size):
    work = Doubling()

    async def ask() -> list[int]:
        batcher = Batcher(work, size=lambda item: item, max_size=max_size, wait_s=0.0)
        return await asyncio.gather(*(batcher(item) for item in items))

    assert asyncio.run(ask()) == [2 * item for item in items]
    assert [item for batch in work.batches for item in batch] == items
    for batch in work.batches:
        assert sum(batch) <= max_size or len(batch) == 1


def test_what_comes_during_a_pass_is_the_next_one():
    may_end = asyncio.Event()
    work = Doubling(may_end)

    async def ask() -> None:
        batcher = Batcher(work, size=lambda _: 1, max_size=100, wait_s=0.0)
        first = asyncio.create_task(batcher(0))
        await asyncio.sleep(0.01)
        later = []
        for item in range(1, 9):
            later.append(asyncio.create_task(batcher(item)))
            await asyncio.sleep(0.003)
        may_end.set()
        await asyncio.gather(first, *later)

    asyncio.run(ask())
    assert work.batches == [[0], list(range(1, 9))]


def test_the_cancelled_take_no_place():
    may_end = asyncio.Event()
    work = Doubling(may_end)

    async def ask() -> None:
        batcher = Batcher(work, size=lambda _: 1, max_size=2, wait_s=0.0)
        tasks = [asyncio.create_task(batcher(item)) for item in range(5)]
        await asyncio.sleep(0.005)
        for place in (0, 2, 3):
            tasks[place].cancel()
        may_end.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert (done[1], done[4]) == (2, 8)

    asyncio.run(ask())
    assert work.batches == [[0, 1], [4]]


def test_a_failure_is_told_to_its_batch_alone():
    async def ask() -> None:
        batcher = Batcher(Doubling(), size=lambda _: 1, max_size=2, wait_s=0.0)
        done = await asyncio.gather(*map(batcher, (1, -1, 3, 4)), return_exceptions=True)
        assert [type(one) for one in done] == [ValueError, ValueError, int, int]
        with pytest.raises(ValueError, match="minus one"):
            await batcher(-1)
        assert await batcher(5) == 10

    asyncio.run(ask())
