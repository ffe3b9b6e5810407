"""Streams units that are found on the way through a Ray Data actor pool: files in; parts found in
them, and what was done with each, out.

Two operators of one pipeline: tasks find units in files (and write what they hold where the run of
the pool can read it), actors carry each out as soon as it is found. A row is a unit's name; text
never passes through the driver. Both may do a unit twice and leave the same file.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray.data

from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.runtime.pools import configure, describe, progress_of, stand_in
from persyn_ray.shards.units import Progress, Unit, Work

log = logging.getLogger(__name__)

Find = Callable[[Unit], Iterator[Unit]]
Row = dict[str, Any]


def _units_in(batch: Row, find: Find, folder: str) -> Iterator[Row]:
    """The units in files, each in a batch of its own; a failure is a row."""
    stand_in(folder)
    for name in batch["shard"]:
        try:
            for unit in find({"shard": str(name)}):
                yield _found(unit["shard"], "")
        except Exception as error:
            log.exception("units of %s", name)
            yield _found("", describe(error))


class _Worker:
    """An actor of the pool: builds its work while the first unit is looked for; a failure is a
    row.
    """

    def __init__(self, build: Callable[[], Work], threads: int, folder: str) -> None:
        stand_in(folder)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported
        self.work: Work | None = None
        self.failure = ""
        try:
            self.work = build()
        except Exception as error:
            log.exception("the work could not be built")
            self.failure = describe(error)

    def __call__(self, unit: Row) -> Row:
        if unit["failure"] or self.work is None:
            return Progress().as_row() | {"failure": unit["failure"] or self.failure}
        try:
            return self.work({"shard": unit["shard"]}).as_row() | {"failure": ""}
        except Exception as error:
            log.exception("unit %s failed", unit["shard"])
            return Progress().as_row() | {"failure": describe(error)}


def stream_units(
    files: Sequence[Unit],
    find: Find,
    build: Callable[[], Work],
    resources: StepResourcesConfig,
    step: str,
) -> Iterator[Progress]:
    """Carry out all units that are found, in any order; yields what each did when it is done.

    Raises:
        StepError: units could not be found, or one failed; finished ones stay finished.
    """
    if not files:
        return
    yield from progress_of(_mapped(files, find, build, resources), step)


def _mapped(
    files: Sequence[Unit], find: Find, build: Callable[[], Work], resources: StepResourcesConfig
) -> ray.data.Dataset:
    threads = resources.threads or max(1, int(resources.cpus))
    with _unit_by_unit():
        found = ray.data.from_items(list(files), override_num_blocks=len(files)).map_batches(
            _units_in,  # pyright: ignore[reportArgumentType]
            fn_kwargs={"find": find, "folder": os.getcwd()},
            batch_size=None,
            batch_format="numpy",
            num_cpus=0,  # beside the actors, which may have taken every CPU
        )
        return found.map(
            _Worker,  # pyright: ignore[reportArgumentType]
            fn_constructor_args=(build, threads, os.getcwd()),
            compute=ray.data.ActorPoolStrategy(min_size=resources.fewest, max_size=resources.most),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus or None,
        )


@contextmanager
def _unit_by_unit() -> Iterator[None]:
    """Settings of the pipelines that are made here; a block is a unit, handed on at once."""
    context = ray.data.DataContext.get_current()
    size = context.target_max_block_size
    context.target_max_block_size = 1
    configure()
    try:
        yield
    finally:
        context.target_max_block_size = size


def _found(shard: str, failure: str) -> Row:
    return {"shard": np.array([shard]), "failure": np.array([failure])}
