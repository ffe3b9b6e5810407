"""Run units of work on a Ray Data actor pool.

A row of the data set is a unit (a shard's name), a block is one row, an actor holds one piece of
work: a teacher's engine, the student, the router. Actors read and write the run folder themselves,
so rows of text never pass through the driver, whose memory does not grow with the number of
prompts. A unit that is carried out twice, after the death of an actor or of the driver, leaves the
same file.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from persyn_ray.errors import EngineDead, PersynError, StepError
from persyn_ray.escaping import visible_logs
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.runtime.metrics import UnitMetrics
from persyn_ray.runtime.placement import Place, place_of
from persyn_ray.shards.units import Progress, Unit, Work

log = logging.getLogger(__name__)

NODE_LABEL = "ray.io/node-id"
PLACEMENT_SECONDS = 1800.0  # processes of the teacher before may need a while to let go


class _Worker:
    """An actor of the pool: builds its work where it runs, then carries out units.

    What goes wrong comes back as a row: Ray Data's own way wraps the message in several others. An
    actor whose engine has died ends its process, and Ray starts another.
    """

    def __init__(
        self,
        build: Callable[[Any], Work],
        place: Place,
        folder: str,
        breaker: CircuitBreaker | None,
        name: str,
        group: PlacementGroup | None,
    ) -> None:
        visible_logs()
        if os.path.isdir(folder):
            os.chdir(folder)
        self.build, self.place, self.breaker = build, place, breaker
        self.work: Work | None = None
        self.group = group
        self.lock = threading.Lock()
        self.metrics = UnitMetrics(name)

    def __call__(self, unit: Unit) -> dict[str, Any]:
        try:
            done = self._ready()(unit)
        except EngineDead as error:
            return self._end_process(error)
        except Exception as error:
            log.exception("unit %s failed", unit)
            return _failure(describe(error))
        self.metrics.count(done)
        return {**done.as_row(), "failure": ""}

    def __del__(self) -> None:
        close = getattr(self.work, "close", None)
        if close is not None:
            close()

    def _ready(self) -> Work:
        with self.lock:
            if self.work is None:
                if self.breaker is not None:
                    self.breaker.start()
                _limit_threads(self.place.threads)
                self.work = self.build(self.group)
            return self.work

    def _end_process(self, error: EngineDead) -> dict[str, Any]:
        """End this process, unless it was one death too many: then say so."""
        log.exception("the engine died")
        if self.breaker is None or self.work is None:
            return _failure(describe(error))
        try:
            self.breaker.died(error)
        except EngineDead as last:
            return _failure(describe(last))
        os._exit(1)


def _failure(text: str) -> dict[str, Any]:
    return {**Progress().as_row(), "failure": text}


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


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
        strategy="STRICT_PACK" if len(set(place.nodes)) <= 1 else "PACK",
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


def run_units(
    build: Callable[[], Work], units: Sequence[Unit], resources: StepResourcesConfig, step: str
) -> Iterator[Progress]:
    """Carry out all units on actors anywhere in the cluster; see `run_pool`."""
    place = place_of(resources, min(resources.actors, len(units)))
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
    _configure()
    try:
        with granted(place) as group:
            results = _mapped(build, units, place, step, breaker, group)
            for batch in results.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                for row in cast(pa.Table, batch).to_pylist():
                    failure = row.pop("failure")
                    if failure:
                        raise StepError(f"Step {step} failed. {failure}")
                    yield Progress(**row)
    except RayError as error:
        raise StepError(f"Step {step} failed. {describe(error)}") from error


def _mapped(
    build: Callable[[Any], Work],
    units: Sequence[Unit],
    place: Place,
    step: str,
    breaker: CircuitBreaker | None,
    group: PlacementGroup | None,
) -> ray.data.Dataset:
    """One row per unit, in blocks of one row, through a pool of actors of fixed size."""
    return ray.data.from_items(list(units), override_num_blocks=len(units)).map(
        _Worker,  # pyright: ignore[reportArgumentType]
        fn_constructor_args=(build, place, os.getcwd(), breaker, step, group),
        compute=ray.data.ActorPoolStrategy(
            size=place.size,
            max_concurrent_calls_per_actor=place.in_flight,
            max_tasks_in_flight_per_actor=max(2, place.in_flight),
            enable_true_multi_threading=place.in_flight > 1,
        ),
        num_cpus=place.cpus,
        num_gpus=place.gpus or None,
        label_selector={NODE_LABEL: place.nodes[0]} if place.nodes else None,
    )


def describe(error: BaseException) -> str:
    """What went wrong, without Ray's wrapping: our messages as they are, others with their type."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PersynError):
            return str(cause)
        inner = getattr(cause, "cause", None) or cause.__cause__
        if inner is None and not str(cause):  # Ray Data hides some errors behind an empty one
            inner = cause.__context__
        if not isinstance(inner, BaseException) or inner is cause:
            return f"{type(cause).__name__}: {cause}"
        cause = inner
    return str(error)


def _configure() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Loading a large model can take longer than the default of half an hour without any output.
    context.execution_no_progress_timeout_s = 4 * 3600
    # Reading the memory map of a process with an engine each second costs it a part of a core.
    context.memory_usage_poll_interval_s = None
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
