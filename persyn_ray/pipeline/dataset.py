"""Writes what students learn from: stored responses in, examples by method and the data set out.

The routed data set is rows with their provenance, in Parquet files of some size. What it holds is
the recipe's `dataset`, which no step depends on: where it has changed since, step report writes the
files anew and nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.pipeline.assign.assignments import num_reassigned
from persyn_ray.pipeline.assign.methods import ResponseSettings
from persyn_ray.recipe.data import DatasetConfig
from persyn_ray.shards.provenance import RoutedRows
from persyn_ray.shards.students.data import contaminated, extra_examples, problems_of
from persyn_ray.shards.tables import ExampleCounts, shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Settings
from persyn_ray.storage.schemas import CONTAMINATED

ROWS_PER_FILE = 50_000
SETTINGS = "dataset.json"
"""What the files were written with; written last."""


def write_examples(settings: ResponseSettings, run: RunLayout, method: str) -> dict[str, Any]:
    """Write a method's examples, one shard at a time, and behind them those of other data sets.

    Returns:
        The fields of MethodExamples.
    """
    run.remove(run.examples(method))
    run.remove(run.contaminated(method))
    problems = problems_of(run, settings.data.section.decontaminate)
    total, parallel = ExampleCounts(), set(shards_of(run, "parallel"))
    for shard in shards_of(run, "parallel", "routed"):
        table, counts = settings.data.examples(run, method, shard, shard in parallel)
        run.examples(method).write_table(shard, table)
        total += counts
    dirty = contaminated(problems, (table for _, table in run.examples(method).tables()))
    _leave_out(run, method, dirty)
    total = replace(
        total, kept=total.kept - dirty.num_rows, contaminated=total.contaminated + dirty.num_rows
    )
    extra = {}
    for one in settings.data.section.extra:
        known = _ids(run, method)
        seed = settings.data.seed
        table, more, counts = extra_examples(one, problems, known, total.kept, seed)
        extra[one.name] = counts.model_dump()
        run.examples(method).write_table(f"extra-{one.name}.parquet", table)
        dirty = pa.concat_tables([dirty, more])
    if dirty.num_rows:
        run.contaminated(method).write_table("rows.parquet", dirty)
    moved = num_reassigned(settings.methods, run, method) if settings.moves_on else 0
    return asdict(total) | {"reassigned": moved, "extra": extra}


def _leave_out(run: RunLayout, method: str, dirty: pa.Table) -> None:
    """Write those shards of examples anew that hold some to leave out."""
    for shard, table in list(run.examples(method).tables()) if dirty.num_rows else ():
        clean = selection.without(table, "prompt_id", dirty["prompt_id"])
        if clean.num_rows < table.num_rows:
            run.examples(method).write_table(shard, clean)


def _ids(run: RunLayout, method: str) -> list[str]:
    """Ids of all prompts that a method's student learns from so far."""
    tables = run.examples(method).tables(["prompt_id"])
    return [one for _, table in tables for one in table["prompt_id"].to_pylist()]


def contaminated_rows(run: RunLayout, method: str) -> pa.Table:
    """CONTAMINATED rows of a method."""
    folder = run.contaminated(method)
    tables = [table for _, table in folder.tables()] if folder.exists() else []
    return pa.concat_tables([CONTAMINATED.empty_table(), *tables])


def learning_settings(section: DatasetConfig) -> Settings:
    """What the recipe says about which examples students learn from."""
    return section.model_dump(mode="json", exclude={"columns", "splits"})


def write_dataset(run: RunLayout, rows: RoutedRows, section: DatasetConfig) -> None:
    """Write every split that the recipe names, in place of what is there; memory holds one file."""
    run.remove(run.dataset)
    columns = list(section.columns)
    for split in section.splits:
        tables = (pa.Table.from_batches([batch]).select(columns) for batch in rows.batches(split))
        for number, table in enumerate(_files(tables)):
            run.dataset.write_table(f"data/{split}-{number:05d}.parquet", table)
    run.dataset.write_json(SETTINGS, _writing_settings(section))


def is_outdated(run: RunLayout, section: DatasetConfig) -> bool:
    """Whether the data set was written with other settings."""
    if not run.dataset.exists(SETTINGS):
        return True
    return run.dataset.read_json(SETTINGS) != _writing_settings(section)


def _writing_settings(section: DatasetConfig) -> Settings:
    return section.model_dump(mode="json", include={"columns", "splits"})


def data_files(run: RunLayout, section: DatasetConfig) -> dict[str, str]:
    """The files of each split that has rows, as a pattern below the data set's folder."""
    folder = run.dataset / "data"
    splits = [split for split in section.splits if folder.names(prefix=f"{split}-")]
    return {split: f"data/{split}-*.parquet" for split in splits}


def num_examples(run: RunLayout) -> int:
    """Rows of split train, from the files' footers."""
    folder = run.dataset / "data"
    return sum(folder.num_rows(name) for name in folder.names(prefix="train-"))


def _files(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Shards joined to files of some size; those without rows are left out."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= ROWS_PER_FILE:
            yield pa.concat_tables(waiting)
            waiting = []
    if any(part.num_rows for part in waiting):
        yield pa.concat_tables(waiting)
