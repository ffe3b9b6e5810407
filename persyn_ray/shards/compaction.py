"""Compaction of a table: a folder with many small parts in, few large parts with the same rows out.

Each new part is written before those that it stands for are removed, so a kill at any moment leaves
every row at least once, and readers take each key once. Parts that are full stay as they are: a
table has about one file for each `MOST_ROWS` rows. Writers may go on meanwhile.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute

from persyn_ray.errors import DamagedError
from persyn_ray.shards.part_files import SHARD, Part, one_per_key, part_name, parts_in
from persyn_ray.shards.part_writer import new_writer
from persyn_ray.storage.folder import Folder

MOST_ROWS = 50_000
MOST_BYTES = 256 * 2**20  # of rows in memory while parts are put together
ROWS_PER_GROUP = 512
ORDER = [(SHARD.name, "ascending"), ("prompt_id", "ascending")]
"""Of rows in a part: the rows of a shard, and of neighbouring ids, lie in few row groups."""
FULL = {b"is_full": b"1"}
pc: Any = compute  # its functions are made at import, where a type checker does not see them


def compact(folder: Folder) -> int:
    """Put the small parts of a table together; returns how many files it has then."""
    parts = parts_in(folder)
    small = [part for part in parts if not _is_full(folder, part)]
    if len(small) > 1:
        for group in _groups(folder, small):
            _replace(folder, group)
    return len(parts_in(folder))


def _is_full(folder: Folder, part: Part) -> bool:
    try:
        metadata = folder.parquet_metadata(part.name)
    except (DamagedError, FileNotFoundError):
        return True  # left alone: it counts as absent
    return metadata.num_rows >= MOST_ROWS or b"is_full" in (metadata.metadata or {})


def _groups(folder: Folder, parts: list[Part]) -> Iterator[list[tuple[Part, pa.Table]]]:
    """Parts with their rows, in order, as many at a time as one new part may hold."""
    group: list[tuple[Part, pa.Table]] = []
    for part in parts:
        try:
            table = _rows(folder, part)
        except (DamagedError, FileNotFoundError):
            continue
        group.append((part, table))
        tables = [of for _, of in group]
        if (
            sum(of.num_rows for of in tables) >= MOST_ROWS
            or sum(of.nbytes for of in tables) >= MOST_BYTES
        ):
            yield group
            group = []
    if len(group) > 1:
        yield group


def _rows(folder: Folder, part: Part) -> pa.Table:
    table = folder.read_table(part.name)
    if part.has_many_shards:
        return table
    return table.append_column(SHARD, pa.array([part.first] * table.num_rows, SHARD.type))


def _replace(folder: Folder, group: list[tuple[Part, pa.Table]]) -> None:
    """Write a group's rows as one part in place of its parts."""
    table = one_per_key(pa.concat_tables([of for _, of in group]))
    table = table.take(pc.sort_indices(table, sort_keys=ORDER))
    is_full = sum(of.num_rows for _, of in group) >= MOST_ROWS or table.nbytes >= MOST_BYTES
    if is_full:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **FULL})
    shards = table[SHARD.name].unique().to_pylist()
    if len(shards) == 1:
        table = table.drop_columns([SHARD.name])
    number = min(part.number for part, _ in group)  # before all that is written meanwhile
    folder.write_table(part_name(shards, number, new_writer()), table, ROWS_PER_GROUP)
    for part, _ in group:
        with suppress(FileNotFoundError):  # another run that shares the folder was faster
            folder.remove(part.name)
