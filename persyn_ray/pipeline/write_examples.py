"""Writes training examples per method, and the routed data set as files with a card."""

from collections.abc import Iterator
from dataclasses import asdict

import pyarrow as pa

from persyn_ray.pipeline.assign.assignments import num_reassigned
from persyn_ray.pipeline.assign.methods import settings_of
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import ExampleCounts, examples_of, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout

ROWS_PER_FILE = 50_000


def write_examples(recipe: Recipe, run: RunLayout, method: str) -> dict[str, int]:
    """One shard of examples at a time; PerSyn's are also written as the data set.

    Returns:
        What became of the prompts, and how many of them have another teacher than the method's
        first choice (`reassigned`).
    """
    total = ExampleCounts()
    for shard in shards_of(run, "parallel", "routed"):
        table, counts = examples_of(run, recipe.teachers, recipe.responses, method, shard)
        run.examples(method).write_table(shard, table)
        total += counts
    if method == PERSYN:
        _write_dataset(run)
    moves = recipe.responses.incomplete == "next_best"
    moved = num_reassigned(settings_of(recipe), run, method) if moves else 0
    return asdict(total) | {"reassigned": moved}


def _write_dataset(run: RunLayout) -> None:
    run.remove(run.dataset)
    for number, table in enumerate(_files(table for _, table in run.examples(PERSYN).tables())):
        run.dataset.write_table(f"data/train-{number:05d}.parquet", table)


def _files(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Shards joined to files of some size."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= ROWS_PER_FILE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
