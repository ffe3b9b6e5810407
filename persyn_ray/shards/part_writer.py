"""Writes rows of a table as they come, in parts of bounded size: rows in, durable parts out.

Many threads put finished rows; whoever then calls `flush` returns when all that was put before is
on disk, and one write carries the rows of all who wait (group commit). What nobody waits for yet
is written every `seconds`, so that a killed process loses no more than that.
"""

import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from persyn_ray.shards.part_files import SHARD, part_name, parts_in, shard_number
from persyn_ray.storage.folder import Folder

FLUSH_SECONDS = 15.0
Row = Mapping[str, Any]


def add_part(folder: Folder, tables: Mapping[str, pa.Table], writer: str | None = None) -> None:
    """Write rows, by the name of their shard, as one new part behind all that are there."""
    number = max((part.number for part in parts_in(folder)), default=0) + 1
    of = {shard_number(shard): table for shard, table in sorted(tables.items())}
    name = part_name(of, number, writer or new_writer())
    folder.write_table(name, next(iter(of.values())) if len(of) == 1 else with_shards(of))


def with_shards(tables: Mapping[int, pa.Table]) -> pa.Table:
    """Rows of several shards in the order of their shards, with the column that names them."""
    return pa.concat_tables(
        tables[shard].append_column(SHARD, pa.array([shard] * tables[shard].num_rows, SHARD.type))
        for shard in sorted(tables)
    )


def new_writer() -> str:
    """A name that no other writer has."""
    return uuid.uuid4().hex[:12]


class PartWriter:
    """Collects rows of one table and writes them as parts; for use by many threads at once."""

    def __init__(self, folder: Folder, schema: pa.Schema, seconds: float = FLUSH_SECONDS) -> None:
        self.folder, self.schema, self.seconds = folder, schema, seconds
        self._writer = new_writer()
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._put, self._write = threading.Lock(), threading.Lock()
        self._timer: threading.Timer | None = None
        self._fault: Exception | None = None

    def put(self, shard: str, row: Row) -> None:
        """Take a row; returns at once, and may be called from an event loop."""
        with self._put:
            self._rows[shard].append(row)
            if self._timer is None:
                self._timer = threading.Timer(self.seconds, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Return when all rows put before are durable.

        Raises:
            PersynError: they cannot be written, now or when the time for it came.
        """
        with self._write:  # who waits here finds its rows written by the one before
            with self._put:
                rows, self._rows = self._rows, defaultdict(list)
                timer, self._timer = self._timer, None
                fault, self._fault = self._fault, None
            if timer is not None:
                timer.cancel()
            if fault is not None:
                raise fault
            if rows:
                add_part(self.folder, self._tables(rows), self._writer)

    def _tables(self, rows: Mapping[str, list[Row]]) -> dict[str, pa.Table]:
        return {
            shard: pa.Table.from_pylist(of_shard, schema=self.schema)
            for shard, of_shard in rows.items()
        }

    def _on_time(self) -> None:
        try:
            self.flush()
        except Exception as error:  # told to the next who waits
            with self._put:
                self._fault = error
