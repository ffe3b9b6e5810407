"""Rows of a batch end one by one: each is durable as it comes, and none waits for the longest."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from persyn_ray.engines.base import Completion, Done, Occupancy, Request
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import ids_of_shard
from persyn_ray.shards.part_writer import PartWriter
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import batches_of
from persyn_ray.storage.layout import RunLayout

from ..engines.streaming import StreamingEngine

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
PATIENCE = 120.0


class Streaming(StreamingEngine):
    """An engine that answers at once, but for one prompt, which ends when it is told to."""

    def __init__(self, slow: str) -> None:
        self.slow, self.may_end = slow, threading.Event()
        self.asked: list[str] = []

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        late = []
        for place, request in reversed(list(enumerate(requests))):
            self.asked.append(request.prompt_id)
            if request.prompt_id == self.slow:
                late.append(place)
            else:
                done(place, Completion(f"to {request.prompt_id}", "stop", 1, 2))
        for place in late:
            assert self.may_end.wait(PATIENCE)
            done(place, Completion("at last", "stop", 1, 9))

    def take_occupancy(self) -> Occupancy:
        return Occupancy(1.0, 5.0, 0.5, 5)


class Case:
    """One teacher on 12 prompts in one shard, whose first prompt takes for ever."""

    def __init__(self, make: Make, carry_out: CarryOut) -> None:
        teachers = [{"name": "a", "engine": {"kind": "scripted"}}]
        self.recipe = make({"teachers": teachers, "prompts.shard_rows": 100})
        self.run = carry_out(self.recipe, until="prompts")
        (self.shard,) = shards_of(self.run, "parallel")
        self.ids = self.run.prompts.read_table(self.shard)["prompt_id"].to_pylist()
        self.engine = Streaming(self.ids[0])
        self.first, *self.others = batches_of({self.shard: list(range(12))}, 4)

    def collect(self) -> Collect:
        work: Any = Collect(self.recipe)
        work._parts_of(self.recipe.teachers[0])
        work.stages["a"].engine = self.engine
        return work

    def filed(self) -> list[str]:
        return ids_of_shard(self.run.responses(self.recipe.teachers[0]), self.shard)


@pytest.fixture
def case(make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch) -> Case:
    quickly = partial(PartWriter, seconds=0.05)
    monkeypatch.setattr("persyn_ray.shards.collect.PartWriter", quickly)
    return Case(make_recipe, carry_out)


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.02)


def test_rows_are_durable_while_the_longest_of_their_batch_still_runs(case: Case) -> None:
    work = case.collect()
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(work, case.first)
        until(lambda: len(case.filed()) == 3)
        assert set(case.filed()) == set(case.ids[1:4])
        assert not going.done()
        case.engine.may_end.set()
        done = going.result(PATIENCE)
    assert sorted(case.filed()) == sorted(case.ids[:4])
    assert (done.rows, done.tokens, done.errors) == (4, 3 * 2 + 9, 0)


def test_no_batch_waits_for_the_longest_response_of_another(case: Case) -> None:
    work = case.collect()
    with ThreadPoolExecutor(3) as pool:
        going = pool.submit(work, case.first)
        others = [pool.submit(work, unit) for unit in case.others]
        assert sum(one.result(PATIENCE).rows for one in others) == 8
        assert not going.done()
        case.engine.may_end.set()
        assert going.result(PATIENCE).rows == 4
    assert sorted(case.filed()) == sorted(case.ids)


def test_after_a_kill_only_rows_that_were_not_durable_are_asked_again(case: Case) -> None:
    threading.Thread(target=case.collect(), args=(case.first,), daemon=True).start()
    until(lambda: len(case.filed()) == 3)
    killed = case.engine  # its process is gone: what it still has to say nobody hears
    case.engine = Streaming("nobody")
    again = case.collect()
    assert again(case.first).rows == 1
    assert case.engine.asked == [case.ids[0]]
    assert again(case.first).rows == 0
    assert sorted(case.filed()) == sorted(case.ids[:4])
    killed.may_end.set()


def test_a_batch_that_another_actor_has_finished_is_not_asked_again(case: Case) -> None:
    case.engine.may_end.set()
    first, second = case.collect(), case.collect()
    assert second(case.others[0]).rows == 4
    assert first(case.first).rows == 4
    assert second(case.first).rows == 0  # though it had looked before the other wrote
    assert sorted(case.engine.asked) == sorted(case.ids[:8])


def test_how_full_the_engine_was_comes_with_each_batch(case: Case) -> None:
    case.engine.may_end.set()
    done = case.collect()(case.first)
    assert (done.engine_seconds, done.running_seconds, done.most_running) == (1.0, 5.0, 5)
