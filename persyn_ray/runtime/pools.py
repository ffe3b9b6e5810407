"""Run units of work on a Ray Data actor pool.

A row of the data set is a unit (a shard's name), a block is one row, an actor holds one piece of
work: a teacher's engine, the student, the router. Actors read and write the run folder themselves,
so rows of text never pass through the driver, whose memory does not grow with the number of
prompts. A unit that is carried out twice, after the death of an actor or of the driver, leaves the
same file.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from persyn_ray.config import StepResources
from persyn_ray.errors import PersynError, StepError
from persyn_ray.stages.work import Progress, Unit, Work

log = logging.getLogger(__name__)


class _Worker:
    """An actor of the pool: builds its work where it runs, then carries out units.

    What goes wrong comes back as a row: Ray Data's own way wraps the message in several others.
    """

    def __init__(self, build: Callable[[], Work], threads: int, folder: str) -> None:
        import torch

        torch.set_num_threads(threads)
        if os.path.isdir(folder):
            os.chdir(folder)
        self.build = build
        self.work: Work | None = None

    def __call__(self, unit: Unit) -> dict[str, Any]:
        try:
            if self.work is None:
                self.work = self.build()
            return {**self.work(unit).as_row(), "failure": ""}
        except Exception as error:
            log.exception("unit %s failed", unit)
            return {**Progress().as_row(), "failure": describe(error)}


def run_units(
    build: Callable[[], Work], units: Sequence[Unit], resources: StepResources, step: str
) -> Iterator[Progress]:
    """Carry out all units, in any order; yields what each did as soon as it is done.

    Raises:
        StepError: a unit failed; finished units stay finished.
    """
    if not units:
        return
    _configure()
    threads = resources.threads or max(1, int(resources.cpus))
    results = ray.data.from_items(list(units), override_num_blocks=len(units)).map(
        _Worker,  # pyright: ignore[reportArgumentType]
        fn_constructor_args=(build, threads, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=min(resources.actors, len(units))),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
    )
    try:
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


def describe(error: BaseException) -> str:
    """What went wrong, without Ray's wrapping: our messages as they are, others with their type."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PersynError):
            return str(cause)
        inner = getattr(cause, "cause", None) or cause.__cause__
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
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
