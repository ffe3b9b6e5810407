"""Runs one Ray Data actor pool per teacher, in the order of a precomputed GPU schedule.

A pool of Ray Data cannot shrink to nothing, so each task of the schedule is an execution of its
own: it takes its GPUs when those before it have given theirs back, and gives them back when no unit
is left. All tasks of a group pull from one queue of units, so that shares move between its engines,
and from a part of the schedule to a later one, as things turn out. Nodes that come while it runs
get tasks of the groups that have units waiting. While a task runs, the weights of the next on its
nodes are brought there. A group that fails stops alone; the others go on, and the step fails at its
end.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import ConfigError, PersynError, StepError
from persyn_ray.runtime.actor_pools.nodes import nodes_now
from persyn_ray.runtime.actor_pools.unit_board import QueueHandle, new_queue
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.runtime.placement import ActorGroup, Node, Task, place_actor_groups
from persyn_ray.runtime.pools import describe, pull
from persyn_ray.shards.units import Progress
from persyn_ray.storage.folder import Folder

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between looks for nodes that were added."""


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
    queues = {group.name: new_queue(group.units) for group in groups if group.units}
    run = _Run(tasks, step, marks, counts, queues, {node.id for node in nodes})
    try:
        run.start()
        yield from run.results()
    finally:
        for handle in queues.values():
            handle.drop()
    failures = [f"{name}: {count.failure}" for name, count in counts.items() if count.failure]
    if failures and len(groups) == 1:
        raise StepError(f"Step {step} failed. {counts[groups[0].name].failure}")
    if failures:
        raise StepError(
            f"Step {step} failed for {len(failures)} of {len(groups)} teachers or pools; the "
            "others are done. The same command asks again.\n  " + "\n  ".join(failures)
        )


class _Run:
    """Tasks in threads of their own; each waits for the tasks whose GPUs it takes over."""

    def __init__(
        self,
        tasks: Sequence[Task],
        step: str,
        marks: Folder,
        counts: dict[str, GroupProgress],
        queues: dict[str, QueueHandle],
        known: set[str],
    ) -> None:
        self.tasks, self.step, self.marks, self.counts = list(tasks), step, marks, counts
        self.queues, self.known = queues, known
        self.ended = [threading.Event() for _ in tasks]
        self.left = len(self.tasks)
        self.queue: queue.SimpleQueue[Progress | BaseException | None] = queue.SimpleQueue()
        self.fetched: set[tuple[str, str]] = set()
        self.lock = threading.Lock()
        self.is_stopped = threading.Event()

    def start(self) -> None:
        """Begin what need not wait, and look for nodes that are added."""
        self._begin(range(len(self.tasks)))
        if any(task.place.nodes for task in self.tasks):  # pools without a node grow by themselves
            threading.Thread(target=self._look_for_nodes, daemon=True).start()

    def results(self) -> Iterator[Progress]:
        """What units did, until every task has ended."""
        try:
            while self.left:
                item = self.queue.get()
                if item is None:
                    with self.lock:
                        self.left -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self.is_stopped.set()

    def _begin(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            threading.Thread(target=self._task, args=(number,), daemon=True).start()

    def _look_for_nodes(self) -> None:
        while not self.is_stopped.wait(LOOK_SECONDS):
            try:
                new = [node for node in nodes_now().lasting if node.id not in self.known]
                if new:
                    self.known.update(node.id for node in new)
                    self._use(new)
            except Exception:  # the tasks that run go on without them
                log.warning("new nodes could not be used", exc_info=True)

    def _use(self, nodes: Sequence[Node]) -> None:
        """Tasks on new nodes, for the groups that have units waiting."""
        groups = [group for group in self._scheduled() if self.queues[group.name].state().waiting]
        fitting = [group for group in groups if _fits(group, nodes)]
        if not fitting:
            return
        more = place_actor_groups(fitting, nodes)
        with self.lock:
            if not self.left:
                return
            first = len(self.tasks)
            self.tasks += [
                replace(task, after=tuple(first + before for before in task.after)) for task in more
            ]
            self.ended += [threading.Event() for _ in more]
            self.left += len(more)
        self._begin(range(first, first + len(more)))

    def _scheduled(self) -> list[ActorGroup]:
        """Groups that stand on nodes of the schedule and have not failed."""
        found = {task.group.name: task.group for task in self.tasks if task.place.nodes}
        return [group for name, group in found.items() if not self.counts[name].failure]

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
        breaker = CircuitBreaker(self.marks / f"{number}-{task.group.name}", task.place.max_deaths)
        with self.lock:
            count.started = count.started or time.monotonic()
        name, handle = f"{self.step} {task.group.name}", self.queues[task.group.name]
        try:
            for done in pull(task.group.build, handle, task.place, name, breaker):
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


def _fits(group: ActorGroup, nodes: Sequence[Node]) -> bool:
    """Whether some nodes alone can hold an engine of a group."""
    try:
        place_actor_groups([group], nodes)
    except ConfigError:
        return False
    return True


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
    """The cluster's nodes that are there to stay, in a stable order."""
    return list(nodes_now().lasting)
