"""What the driver does as nodes come and go, with queues and pools that are no Ray's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnschedulableError

from persyn_ray.errors import StepError
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime import pools, teacher_scheduler
from persyn_ray.runtime.actor_pools.nodes import NodesNow, actors_that_fit
from persyn_ray.runtime.actor_pools.worker import Task
from persyn_ray.runtime.placement import ActorGroup, Node, Place
from persyn_ray.scheduling.unit_queue import UnitQueue, Worker
from persyn_ray.shards.units import Progress, Unit, units_of
from persyn_ray.storage.folder import Folder

A, B, C = Node("a", 2, 1), Node("b", 2, 1), Node("c", 2, 1)


class LocalQueue(UnitQueue[Unit]):
    """A queue in this process with the handle's extra calls."""

    def look(self, pool: str, alive: Any, draining: Any) -> Any:
        return self.lose(alive, draining), self.state(pool)

    def drop(self) -> None:
        """Nobody asks any more."""


def cluster_of(*nodes: Node, draining: str = "") -> NodesNow:
    return NodesNow(nodes, frozenset(draining))


class Cluster:
    """Nodes that a test changes."""

    def __init__(self, *nodes: Node) -> None:
        self.now = cluster_of(*nodes)

    def __call__(self) -> NodesNow:
        return self.now


def group(name: str, units: int) -> ActorGroup:
    resources = TeacherResourcesConfig(gpus=1, cpus=1)
    todo = tuple(units_of([f"{name}-{number}" for number in range(units)]))
    return ActorGroup(name, lambda _: None, todo, resources, load_seconds=1, work_seconds=50)


@pytest.mark.timeout(900)
def test_a_node_that_comes_while_a_part_runs_takes_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, has_come, at = Cluster(A), threading.Event(), list[str]()

    def pull(build: Any, queue: Any, place: Place, *_: Any) -> Iterator[Progress]:
        """An engine: the first one waits with its second unit until another has done one."""
        (node,) = place.nodes
        queue.enter(Worker(f"{node}-{len(at)}", node, node, node))
        while (
            taken := queue.take(next(w for w in queue._workers if w.startswith(node)))
        ) is not None:
            at.append(node)
            if node == "a":
                cluster.now = cluster_of(A, B)
                assert has_come.wait(300)
            else:
                has_come.set()
            queue.finish(taken[0])
            yield Progress(rows=1)

    monkeypatch.setattr(teacher_scheduler, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(teacher_scheduler, "nodes_now", cluster)
    monkeypatch.setattr(teacher_scheduler, "new_queue", LocalQueue)
    monkeypatch.setattr(teacher_scheduler, "pull", pull)
    marks = Folder(str(tmp_path / "marks"))
    counts: dict[str, teacher_scheduler.GroupProgress] = {}
    done = list(teacher_scheduler.run_actor_groups([group("t", 20)], [A], "collect", marks, counts))
    assert sum(one.rows for one in done) == counts["t"].done.rows == 20
    assert set(at) == {"a", "b"}


class Ended:
    """An execution that notes whether it was ended."""

    def __init__(self) -> None:
        self.has_ended = threading.Event()

    def end(self) -> None:
        """Nothing runs."""
        self.has_ended.set()


def looked_at(queue: LocalQueue, place: Place, cluster: Cluster) -> pools._Watch:
    queue.enter(Worker("w", "actor", "a", "pool"))
    task = Task(lambda _: None, queue, place, "", "collect", "pool", None, None)  # pyright: ignore
    return pools._Watch(task, Ended())  # pyright: ignore[reportArgumentType]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(A, B)
    monkeypatch.setattr(pools, "nodes_now", made)
    return made


PINNED, ANYWHERE = Place(1, nodes=("a",)), Place(2)


def test_a_pool_whose_node_died_is_ended_and_its_units_wait_again(cluster: Cluster) -> None:
    queue = LocalQueue(units_of(["x", "y"]))
    watch = looked_at(queue, PINNED, cluster)
    queue.take("w")
    assert not watch._look()
    cluster.now = cluster_of(B)
    assert watch._look()
    assert queue.state().waiting == 2


def test_a_pool_on_a_draining_node_is_ended_when_it_holds_nothing(cluster: Cluster) -> None:
    queue = LocalQueue(units_of(["x", "y"]))
    watch = looked_at(queue, PINNED, cluster)
    taken = queue.take("w")
    assert taken is not None
    cluster.now = cluster_of(A, B, draining="a")
    assert not watch._look()
    queue.finish(taken[0])
    assert watch._look()


def test_a_pool_that_lost_a_node_and_does_nothing_starts_anew_after_a_while(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = LocalQueue(units_of(["x", "y"]))
    watch = looked_at(queue, ANYWHERE, cluster)
    assert not watch._look(), "its actors may still be loading"
    queue.take("w")
    cluster.now = cluster_of(B)
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
    assert watch._look()
    assert queue.state().waiting == 2


def test_without_a_node_that_can_hold_an_actor_the_step_ends_with_what_is_missing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = looked_at(LocalQueue(units_of(["x"])), Place(1, cpus=1, gpus=1), cluster)
    cluster.now = cluster_of(Node("d", 8, 0))
    assert not watch._look()
    monkeypatch.setattr(pools, "PLACEMENT_SECONDS", 0.0)
    assert watch._look()
    assert "No node has 1 CPUs and 1 GPUs any more" in watch.failure


def test_tickets_that_nobody_needs_are_not_waited_for(cluster: Cluster) -> None:
    queue = LocalQueue(units_of(["x"]))
    watch = looked_at(queue, ANYWHERE, cluster)
    taken = queue.take("w")
    assert taken is not None
    assert not watch._look()
    queue.finish(taken[0])
    assert watch._look()


@pytest.mark.parametrize("is_gone", [True, False])
def test_an_actor_without_its_node_moves_its_pool_and_does_not_fail_the_step(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    """Ray may refuse to start an actor on a dead node before the watch has seen that it is dead."""
    queue, places = LocalQueue(units_of(["x"])), list[Place]()

    def round_of(task: Task, now: NodesNow, tickets: int) -> Iterator[Progress]:
        places.append(task.place)
        if task.place.nodes:
            cluster.now = cluster_of(B) if is_gone else cluster.now
            raise RuntimeError("a block failed") from ActorUnschedulableError("no such node")
        queue.enter(Worker("w", "actor", "b", task.pool))
        queue.finish(0)
        yield Progress(rows=1)

    monkeypatch.setattr(pools, "_round", round_of)
    monkeypatch.setattr(pools, "GONE_SECONDS", 0.0)
    monkeypatch.setattr(pools, "LOOK_SECONDS", 0.0)
    done = pools.pull(lambda _: None, queue, PINNED, "collect")  # pyright: ignore
    if is_gone:
        assert [one.rows for one in done] == [1]
        assert [place.nodes for place in places] == [("a",), ()]
    else:
        with pytest.raises(RuntimeError, match="a block failed"):
            list(done)


class Flapping:
    """Nodes of which one goes whenever a watch looks, or whenever it is looked at again."""

    def __init__(self, is_for_watch: bool) -> None:
        self.is_for_watch, self.looks = is_for_watch, 0

    def __call__(self) -> NodesNow:
        self.looks += 1
        is_watch = threading.current_thread() is not threading.main_thread()
        is_going = is_watch if self.is_for_watch else self.looks % 2 == 0
        return cluster_of(A, B, draining="a" if is_going else "")


@pytest.mark.parametrize("how", ["ended by the watch", "refused by Ray"])
def test_a_node_that_now_goes_and_now_stays_is_left_once(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    queue, places = LocalQueue(units_of(["x"])), list[Place]()
    monkeypatch.setattr(pools, "nodes_now", Flapping(how == "ended by the watch"))
    monkeypatch.setattr(pools, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(pools, "_mapped", lambda *_: None)
    monkeypatch.setattr(pools, "Execution", lambda _: Ended())

    def progress(execution: Ended, what: str, queue: LocalQueue) -> Iterator[Progress]:
        if len(places) > 20:
            raise AssertionError("it is tried without end")
        if places[-1].nodes and how == "refused by Ray":
            raise RuntimeError("a block failed") from ActorUnschedulableError("no such node")
        if places[-1].nodes:
            assert execution.has_ended.wait(60)
        else:
            queue.enter(Worker("w", "actor", "b", "pool"))
            taken = queue.take("w")
            assert taken is not None
            queue.finish(taken[0])
            yield Progress(rows=1)

    def granted(place: Place) -> Any:
        places.append(place)
        return nullcontext()

    monkeypatch.setattr(pools, "_progress", progress)
    monkeypatch.setattr(pools, "granted", granted)
    monkeypatch.setattr(pools, "configure", lambda: None)
    done = pools.pull(lambda _: None, queue, PINNED, "collect")  # pyright: ignore
    assert [one.rows for one in done] == [1]
    assert [place.nodes for place in places] == [("a",), ()]


def in_a_ring() -> Exception:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def with_a_text_as_cause() -> Exception:
    error = RuntimeError("failed")
    error.cause = "a text"  # pyright: ignore[reportAttributeAccessIssue]
    return error


def of_a_unit() -> Exception:
    error = StepError("a unit failed")
    error.__context__ = ActorUnschedulableError("no such node")
    return error


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [in_a_ring, with_a_text_as_cause, of_a_unit])
def test_errors_of_another_kind_are_raised_at_once(
    cluster: Cluster, make: Callable[[], Exception]
) -> None:
    cluster.now = cluster_of(B)
    assert not pools._is_homeless(make(), PINNED)


@pytest.mark.timeout(10)
def test_a_pool_that_may_stand_anywhere_waits_for_no_node_to_go(cluster: Cluster) -> None:
    assert not pools._is_homeless(ActorUnschedulableError("no group"), ANYWHERE)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (Place(8, cpus=1), 4),
        (Place(3, cpus=1), 3),
        (Place(8, cpus=1, gpus=0.5), 4),
        (Place(8, 0), 8),
    ],
)
def test_a_growing_pool_starts_with_what_fits(place: Place, number: int) -> None:
    assert actors_that_fit(place, (A, B)) == number
