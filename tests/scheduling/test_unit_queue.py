"""Units are pulled: each goes to one worker, and what a lost worker held goes to another."""

import hypothesis.strategies as st
from hypothesis import given

from persyn_ray.scheduling.unit_queue import UnitQueue, Worker


def worker(name: str, node: str = "n", actor: str = "", pool: str = "p") -> Worker:
    return Worker(name, actor or name, node, pool)


def queue_of(*units: str, workers: tuple[Worker, ...] = ()) -> UnitQueue[str]:
    queue = UnitQueue(units)
    for one in workers:
        queue.enter(one)
    return queue


def test_units_are_handed_out_in_their_order_each_once() -> None:
    queue = queue_of("a", "b", "c", workers=(worker("1"), worker("2")))
    assert [queue.take(name) for name in ("1", "2", "1")] == [(0, "a"), (1, "b"), (2, "c")]
    assert queue.take("2") is None
    assert not queue.state().is_done
    for number in range(3):
        queue.finish(number)
    assert queue.state().is_done


def test_what_a_node_held_goes_back_before_all_that_waits() -> None:
    queue = queue_of("a", "b", "c", "d", workers=(worker("1", "lost"), worker("2", "kept")))
    for name in ("1", "2", "1"):
        queue.take(name)
    assert queue.lose(alive=["kept"]) == 2
    assert [queue.take("2") for _ in range(3)] == [(0, "a"), (2, "c"), (3, "d")]
    assert queue.take("1") is None, "a worker that is gone gets nothing"


def test_on_a_draining_node_nothing_new_begins_and_what_has_begun_ends() -> None:
    queue = queue_of("a", "b", workers=(worker("1", "going"), worker("2", "staying")))
    assert queue.take("1") == (0, "a")
    assert queue.lose(alive=["going", "staying"], draining=["going"]) == 0
    assert queue.take("1") is None
    queue.finish(0)
    assert queue.take("2") == (1, "b")


def test_a_new_process_of_an_actor_gives_back_what_the_one_before_held() -> None:
    queue = queue_of("a", "b", workers=(worker("1", actor="x"),))
    queue.take("1")
    queue.enter(worker("2", actor="x"))
    assert queue.take("2") == (0, "a")


def test_a_pool_that_ends_gives_back_its_own_alone() -> None:
    queue = queue_of("a", "b", workers=(worker("1", pool="p"), worker("2", pool="q")))
    assert queue.take("1") == (0, "a")
    assert queue.take("2") == (1, "b")
    assert (queue.state("p").held_here, queue.state("p").held) == (1, 2)
    assert queue.leave("p") == 1
    assert (queue.state("q").held_here, queue.state().waiting) == (1, 1)


def test_a_queue_that_is_fed_is_done_when_it_is_closed_and_empty() -> None:
    queue: UnitQueue[str] = UnitQueue(is_fed=True)
    queue.enter(worker("1"))
    assert queue.take("1") is None
    assert not queue.state().is_done
    queue.add(["a"])
    queue.close()
    assert queue.take("1") == (0, "a")
    queue.finish(0)
    assert queue.state().is_done


def test_a_late_result_of_a_lost_worker_counts() -> None:
    queue = queue_of("a", workers=(worker("1", "lost"), worker("2")))
    queue.take("1")
    queue.lose(alive=["n"])
    queue.finish(0)
    assert queue.take("2") is None
    assert queue.state().is_done


@given(st.lists(st.sampled_from(["take", "finish", "lose", "enter"]), max_size=80), st.integers())
def test_no_unit_is_lost_whatever_happens(events: list[str], seed: int) -> None:
    queue, held = UnitQueue(range(10)), dict[str, list[int]]()
    for place, event in enumerate(events):
        name = f"{(seed + place) % 3}"
        match event:
            case "enter":
                queue.enter(worker(f"{name}-{place}", node=name, actor=name))
                held[name] = []
            case "lose":
                queue.lose(alive={"0", "1", "2"} - {name})
                held.pop(name, None)
            case "finish" if held.get(name):
                queue.finish(held[name].pop())
            case _:
                state = queue.state()
                assert state.waiting + state.held + state.done == 10
    queue.enter(worker("last", node="last"))
    queue.lose(alive={"last"})
    while (taken := queue.take("last")) is not None:
        queue.finish(taken[0])
    assert queue.state().done == 10
    assert queue.state().is_done
