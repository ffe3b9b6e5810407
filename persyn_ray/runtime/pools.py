"""Streams rows through a Ray Data actor pool, in small batches of which many are in flight.

An actor holds one piece of work: a teacher's engine, the student, the router. Ray Data passes
tickets through the pool, and an actor with a ticket pulls the next unit: a shard's name and places
of rows in it. Actors read and write the run folder themselves, so texts never pass through the
driver, whose memory grows by some bytes for each row. A batch that is carried out twice, after the
death of an actor or of the driver, does only the rows that were not durable.

A pool grows and shrinks between its minimum and maximum. Units that were in the hands of a node
that died go to others at once; a pool that has lost its place starts anew wherever there is room.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import ray.data
from ray.exceptions import ActorUnschedulableError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from persyn_ray.errors import StepError
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.runtime.actor_pools.execution import Execution
from persyn_ray.runtime.actor_pools.nodes import NodesNow, actors_that_fit, nodes_now
from persyn_ray.runtime.actor_pools.unit_board import QueueHandle, new_queue
from persyn_ray.runtime.actor_pools.worker import NONE, PoolWorker, Task, describe, stand_in
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.runtime.placement import Place, place_of
from persyn_ray.shards.units import Progress, Unit, Work

__all__ = ["configure", "describe", "progress_of", "run_pool", "run_units", "stand_in"]

log = logging.getLogger(__name__)

NODE_LABEL = "ray.io/node-id"
PLACEMENT_SECONDS = 1800.0
"""For which a pool waits for a place: processes of the teacher before may need a while to let go,
and a new node some minutes to come."""
LOOK_SECONDS = 2.0
GONE_SECONDS = 60.0
"""Within which a node on which nothing can be scheduled any more is also told to be gone."""
IDLE_SECONDS = 15.0
"""After which a pool that has lost a node, and does nothing though units wait, starts anew."""


def run_units(
    build: Callable[[], Work],
    units: Sequence[Unit],
    resources: StepResourcesConfig,
    step: str,
    in_flight: int = 1,
) -> Iterator[Progress]:
    """Carry out all units on actors anywhere in the cluster, see `run_pool`; each actor works on
    `in_flight` of them at once."""
    place = place_of(resources, min(resources.most, len(units)))
    place = replace(place, in_flight=in_flight)
    return run_pool(lambda placement: build(), units, place, step)


def run_pool(
    build: Callable[[Any], Work],
    units: Sequence[Unit],
    place: Place,
    step: str,
    breaker: CircuitBreaker | None = None,
) -> Iterator[Progress]:
    """Carry out all units, in any order; yields what each did as soon as it is done.

    Raises:
        StepError: a unit failed; finished units stay finished.
    """
    if not units:
        return
    queue = new_queue(units)
    try:
        yield from pull(build, queue, place, step, breaker)
    finally:
        _quietly(queue.drop)


def pull(
    build: Callable[[Any], Work],
    queue: QueueHandle,
    place: Place,
    step: str,
    breaker: CircuitBreaker | None = None,
    tickets: int | None = None,
) -> Iterator[Progress]:
    """Carry out units of a queue that other pools may share, until none waits.

    Args:
        tickets: most units that this pool can carry out; by default those that wait now.

    Raises:
        StepError: a unit failed; finished units stay finished.
    """
    configure()
    what = f"Step {step}"
    try:
        while (state := queue.state()).waiting or state.is_fed:
            now = nodes_now()
            if not now.hold(place):
                place = _moved(place, what)
            number = tickets if tickets is not None and state.is_fed else state.waiting
            is_fruitless = True
            with granted(place) as group:
                pool = uuid.uuid4().hex
                task = Task(build, queue, place, os.getcwd(), step, pool, breaker, group)
                try:
                    for done in _round(task, now, number):
                        is_fruitless = False
                        yield done
                except Exception as error:
                    if not _is_homeless(error, place):
                        raise
                    place = _moved(place, what)  # even if its node is said to stay again
            if is_fruitless:  # its actors were on nodes that go, or another pool was faster
                time.sleep(LOOK_SECONDS)
    except RayError as error:
        raise StepError(f"{what} failed. {describe(error)}") from error


class _NodeGoesError(Exception):
    """An execution was ended because the pool's node goes, or is gone."""


def _moved(place: Place, what: str) -> Place:
    """The same pool anywhere; it never goes back, so that a node which is now going and now staying
    can end it once only."""
    log.warning("%s: a node has gone or goes; its units go elsewhere", what)
    return replace(place, nodes=(), fewest=1)


def _round(task: Task, now: NodesNow, tickets: int) -> Iterator[Progress]:
    """One execution: so many units, and those that other pools give back meanwhile."""
    place = task.place
    # Tickets also wait behind what a slow actor does: without more of them nobody else could pull.
    spare = min(tickets, place.size * place.in_flight)
    execution = Execution(_mapped(task, now, tickets + spare))
    watch = _Watch(task, execution)
    watch.start()
    try:
        yield from _progress(execution, f"Step {task.step}", task.queue)
        if watch.failure:
            raise StepError(f"Step {task.step} failed. {watch.failure}")
        if watch.has_left:
            raise _NodeGoesError
    finally:
        watch.stopped.set()
        execution.end()
        _quietly(lambda: task.queue.leave(task.pool))


def _is_homeless(error: Exception, place: Place) -> bool:
    """Whether an execution ended because the pool's node goes, or failed because it went while an
    actor was to start there: Ray may say so before the watch has seen that the node is gone."""
    if isinstance(error, _NodeGoesError):
        return True
    if not place.nodes or not _is_unschedulable(error):
        return False
    deadline = time.monotonic() + GONE_SECONDS
    while nodes_now().hold(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _is_unschedulable(error: Exception) -> bool:
    """Whether behind an error is that an actor could not be placed; never behind a unit's own."""
    seen, cause = list[object](), error
    while isinstance(cause, BaseException) and not isinstance(cause, StepError):
        if isinstance(cause, ActorUnschedulableError):
            return True
        if any(cause is one for one in seen):  # errors may stand behind one another
            return False
        seen.append(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    return False


def _quietly(tidy: Callable[[], Any]) -> None:
    """Tidy up after a pool; a driver that was interrupted may have ended Ray meanwhile."""
    try:
        if ray.is_initialized():
            tidy()
    except Exception:
        log.debug("not tidied up", exc_info=True)


class _Watch(threading.Thread):
    """Looks after one execution, and ends it where it cannot go on or has nothing to wait for."""

    def __init__(self, task: Task, execution: Execution) -> None:
        super().__init__(daemon=True)
        self.task, self.execution = task, execution
        self.stopped = threading.Event()
        self.failure = ""
        self.has_lost = self.has_left = False
        self.idle_since: float | None = None
        self.homeless_since: float | None = None

    def run(self) -> None:
        while not self.stopped.wait(LOOK_SECONDS):
            try:
                is_over = self._look()
            except Exception:  # the cluster may be going down: the execution itself will tell
                log.debug("no look at the cluster", exc_info=True)
                continue
            if is_over:  # and again, should it only just be starting
                self.execution.end()

    def _look(self) -> bool:
        """Whether the execution is to be ended."""
        place, now = self.task.place, nodes_now()
        lost, state = self.task.queue.look(self.task.pool, now.ids, now.draining)
        self.has_lost = self.has_lost or lost > 0
        if state.held_here:
            self.idle_since = None
            self.has_left = not now.ids >= set(place.nodes)
            return self.has_left
        if not now.hold(place):
            self.has_left = True
            return True
        if not (state.waiting or state.is_fed):
            return True
        if not self._has_home(now):
            return True
        self.idle_since = self.idle_since or time.monotonic()
        return self.has_lost and time.monotonic() - self.idle_since > IDLE_SECONDS

    def _has_home(self, now: NodesNow) -> bool:
        """Whether an actor of the pool has, or will soon have, a node that can hold it."""
        place = self.task.place
        if any(node.cpus >= place.cpus and node.gpus >= place.gpus for node in now.lasting):
            self.homeless_since = None
            return True
        self.homeless_since = self.homeless_since or time.monotonic()
        if time.monotonic() - self.homeless_since < PLACEMENT_SECONDS:
            return True
        self.failure = (
            f"No node has {place.cpus:g} CPUs and {place.gpus:g} GPUs any more, for "
            f"{PLACEMENT_SECONDS:.0f} s. What is done stays; the same command goes on."
        )
        return False


@contextmanager
def granted(place: Place) -> Iterator[PlacementGroup | None]:
    """A placement group for the workers of one engine, given back as soon as its pool has ended.

    The driver holds it and not the actor: the GPUs stay reserved while an actor is replaced, and
    are free for the next teacher without waiting for processes to be collected. All workers stand
    in one node (STRICT_PACK) unless the place names several.

    Raises:
        StepError: the cluster did not grant it in time.
    """
    if not place.bundles:
        yield None
        return
    labels = [{NODE_LABEL: node} for node in place.nodes] or None
    group = placement_group(
        list(place.bundles),
        strategy="PACK" if place.is_across_nodes else "STRICT_PACK",
        bundle_label_selector=labels,  # pyright: ignore[reportArgumentType]
    )
    try:
        if not group.wait(PLACEMENT_SECONDS):
            raise StepError(
                f"The cluster did not grant {len(place.bundles)} x {place.bundles[0]} within "
                f"{PLACEMENT_SECONDS:.0f} s; `ray status` shows who holds its GPUs and CPUs."
            )
        yield group
    finally:
        remove_placement_group(group)


def progress_of(results: ray.data.Dataset, what: str) -> Iterator[Progress]:
    """What each unit of a pipeline did, as soon as it is done; `what` names it in errors.

    Raises:
        StepError: a unit failed, or Ray did.
    """
    try:
        yield from _progress(Execution(results), what)
    except RayError as error:
        raise StepError(f"{what} failed. {describe(error)}") from error


def _progress(
    execution: Execution, what: str, queue: QueueHandle | None = None
) -> Iterator[Progress]:
    """Results as they come; those of a queue's units are told to it."""
    for row in execution.rows():
        number, failure = row.pop("unit", NONE), row.pop("failure")
        if failure:
            raise StepError(f"{what} failed. {failure}")
        if queue is not None:
            if number == NONE:
                continue
            queue.finish(number)
        yield Progress(**row)


def _mapped(task: Task, now: NodesNow, tickets: int) -> ray.data.Dataset:
    """One row per ticket, in blocks of one row, through a pool of actors."""
    place = task.place
    fewest = min(place.fewest or place.size, place.size)
    first = max(fewest, actors_that_fit(place, now.lasting)) if fewest < place.size else fewest
    rows = [{"ticket": number} for number in range(tickets)]
    return ray.data.from_items(rows, override_num_blocks=tickets).map(
        PoolWorker,  # pyright: ignore[reportArgumentType]
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(
            min_size=fewest,
            max_size=place.size,
            initial_size=first,
            max_concurrent_calls_per_actor=place.in_flight,
            # A pool grows while its actors have nearly twice the tickets that they work on.
            max_tasks_in_flight_per_actor=2 * place.in_flight,
            enable_true_multi_threading=place.in_flight > 1,
        ),
        num_cpus=place.cpus,
        num_gpus=place.gpus or None,
        label_selector={NODE_LABEL: place.nodes[0]} if place.nodes else None,
    )


def configure() -> None:
    """Set what all pipelines share in Ray Data's context of the driver."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Loading a large model can take longer than the default of half an hour without any output.
    context.execution_no_progress_timeout_s = 4 * 3600
    # Reading the memory map of a process with an engine each second costs it a part of a core.
    context.memory_usage_poll_interval_s = None
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
