"""Runs one Ray Data actor pool per teacher, in the order of a precomputed GPU schedule.

A pool of Ray Data cannot shrink to nothing, so each task of the schedule is an execution of its
own: it takes its GPUs when those before it have given theirs back, and gives them back when its
units are done. While a task runs, the weights of the next on its nodes are brought there. A group
that fails stops alone; the others go on, and the step fails at its end.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import PersynError, StepError
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.runtime.placement import ActorGroup, Node, Task, place_actor_groups
from persyn_ray.runtime.pools import describe, run_pool
from persyn_ray.shards.units import Progress
from persyn_ray.storage.folder import Folder


@dataclass
class GroupProgress:
    """What a group has done, and in how many seconds from its first start to its last end."""

    done: Progress = field(default_factory=Progress)
    started: float | None = None
    ended: float = 0.0
    failure: str = ""

    @property
    def seconds(self) -> float:
        """Wall time, the loading of weights included."""
        return 0.0 if self.started is None else self.ended - self.started


def run_actor_groups(
    groups: Sequence[ActorGroup],
    nodes: Sequence[Node],
    step: str,
    marks: Folder,
    counts: dict[str, GroupProgress],
) -> Iterator[Progress]:
    """Carry out all groups; yields what each unit did, and fills `counts` by group.

    Args:
        marks: folder for the marks of engine starts.

    Raises:
        StepError: one or more groups failed; all others are done by then.
        ConfigError: a group fits no node.
    """
    tasks = place_actor_groups(groups, nodes)
    marks.remove()
    counts.update({group.name: GroupProgress() for group in groups})
    run = _Run(tasks, step, marks, counts)
    run.start()
    yield from run.results()
    failures = [f"{name}: {count.failure}" for name, count in counts.items() if count.failure]
    if failures and len(groups) == 1:
        raise StepError(f"Step {step} failed. {counts[groups[0].name].failure}")
    if failures:
        raise StepError(
            f"Step {step} failed for {len(failures)} of {len(groups)} teachers or pools; the "
            "others are done. The same command asks again.\n  " + "\n  ".join(failures)
        )


class _Run:
    """One thread per task; each waits for the tasks whose GPUs it takes over."""

    def __init__(
        self, tasks: Sequence[Task], step: str, marks: Folder, counts: dict[str, GroupProgress]
    ) -> None:
        self.tasks, self.step, self.marks, self.counts = tasks, step, marks, counts
        self.ended = [threading.Event() for _ in tasks]
        self.queue: queue.SimpleQueue[Progress | BaseException | None] = queue.SimpleQueue()
        self.fetched: set[tuple[str, str]] = set()
        self.lock = threading.Lock()
        self.is_stopped = threading.Event()

    def start(self) -> None:
        for number in range(len(self.tasks)):
            thread = threading.Thread(target=self._task, args=(number,), daemon=True)
            thread.start()

    def results(self) -> Iterator[Progress]:
        """What units did, until every task has ended."""
        left = len(self.tasks)
        try:
            while left:
                item = self.queue.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self.is_stopped.set()

    def _task(self, number: int) -> None:
        task = self.tasks[number]
        try:
            for before in task.after:
                self.ended[before].wait()
            count = self.counts[task.group.name]
            if not count.failure and not self.is_stopped.is_set():
                self._prefetch_after(number)
                self._carry_out(number, task, count)
        except BaseException as error:  # a fault of ours: hand it to who waits
            self.queue.put(error)
        finally:
            self.ended[number].set()
            self.queue.put(None)

    def _carry_out(self, number: int, task: Task, count: GroupProgress) -> None:
        folder = self.marks / f"{number}-{task.group.name}"
        breaker = CircuitBreaker(folder, task.place.size, task.place.max_deaths)
        with self.lock:
            count.started = count.started or time.monotonic()
        name = f"{self.step} {task.group.name}"
        try:
            for done in run_pool(task.group.build, task.units, task.place, name, breaker):
                with self.lock:
                    count.done += done
                self.queue.put(done)
                if count.failure or self.is_stopped.is_set():
                    return
        except PersynError as error:
            with self.lock:
                said = describe(error).removeprefix(f"Step {name} failed. ")
                count.failure = count.failure or said
        finally:
            with self.lock:
                count.ended = max(count.ended, time.monotonic())

    def _prefetch_after(self, number: int) -> None:
        """Bring the weights of the tasks that wait for this one to their nodes."""
        for task in self.tasks:
            prefetch = task.group.prefetch
            if number not in task.after or prefetch is None:
                continue
            for node in sorted(set(task.place.nodes)):
                with self.lock:
                    is_new = (task.group.name, node) not in self.fetched
                    self.fetched.add((task.group.name, node))
                if is_new:
                    _fetch(prefetch, node)


def _fetch(prefetch: Callable[[], None], node: str) -> None:
    """Start a prefetch on a node; it takes no CPU from the plan, and its failure is not ours."""
    where = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    ray.remote(_quietly).options(num_cpus=0, scheduling_strategy=where, max_retries=0).remote(
        prefetch
    )


def _quietly(prefetch: Callable[[], None]) -> None:
    """The engine that needs the weights reports what is wrong with them."""
    try:
        prefetch()
    except Exception as error:
        print(cut_secrets(f"prefetch failed: {error}"))


def cluster_nodes() -> list[Node]:
    """The cluster's nodes as they are now, in a stable order."""
    found = [
        Node(node["NodeID"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (-node.gpus, -node.cpus, node.id))
