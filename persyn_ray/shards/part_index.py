"""Index of a table of parts: ids of rows in, the rows out, without reading whole shards again.

Parts never change, so the key columns of each are read once and stay in memory for the last shards
that were asked for; units come in the order of shards. Rows themselves are read when they are asked
for: from the parts that hold them, and there from the row groups that can.
"""

import threading
from collections.abc import Sequence

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.errors import DamagedError
from persyn_ray.shards.part_files import ATTEMPTS, Part, one_per_key, rows_by_part, rows_of_part
from persyn_ray.storage.folder import Folder

LAST_SHARDS = 2
"""Shards whose keys stay in memory."""


class PartIndex:
    """Where the rows of one table lie; for use by many threads at once.

    Args:
        schema: of the table.
        keys: columns that are kept in memory, `prompt_id` among them.
    """

    def __init__(
        self, folder: Folder, schema: pa.Schema, keys: Sequence[str] = ("prompt_id",)
    ) -> None:
        self.folder, self.schema, self.keys = folder, schema, list(keys)
        self._lock = threading.Lock()
        self._parts: dict[str, dict[Part, pa.Table | None]] = {}

    def known(self, shard: str, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """The key columns of a shard's rows of some prompts; some of them perhaps repeated."""
        empty = pa.schema([self.schema.field(name) for name in self.keys]).empty_table()
        tables = [table for table in self._look(shard).values() if table is not None]
        return pa.concat_tables(
            [
                empty,
                *(selection.among(table.select(self.keys), "prompt_id", ids) for table in tables),
            ]
        )

    def without(self, shard: str, table: pa.Table) -> pa.Table:
        """Those rows of a table of prompts that a shard has no row of."""
        done = self.known(shard, table["prompt_id"])["prompt_id"]
        return selection.without(table, "prompt_id", done)

    def rows(self, shard: str, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """The rows of some prompts of a shard, as `part_files.existing` would show them.

        Raises:
            DamagedError: parts are replaced faster than one can read.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._rows(shard, ids)
            except FileNotFoundError:  # put together meanwhile: what is there now holds it
                with self._lock:
                    self._parts.pop(shard, None)
        raise DamagedError(
            f"The parts of {shard} in {self.folder.address} change faster than one can read."
        )

    def _rows(self, shard: str, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        held = self._look(shard)
        tables = [self.schema.empty_table()]
        for part in sorted(held):
            keys = held[part]
            if keys is None:
                continue
            mine = selection.among(keys, "prompt_id", ids)["prompt_id"]
            if len(mine):
                found = rows_of_part(self.folder, part, self.schema.names, shard, mine)
                if found is not None:
                    tables.append(found.select(self.schema.names))
        return one_per_key(pa.concat_tables(tables))

    def _look(self, shard: str) -> dict[Part, pa.Table | None]:
        """The key columns of each part of a shard; only parts that are new are read."""
        with self._lock:
            parts = self._parts.setdefault(shard, {})
            names = {part.name for part in parts}
            parts.update(rows_by_part(self.folder, shard, self.keys, names))
            others = [name for name in self._parts if name != shard]
            for old in others[: 1 - LAST_SHARDS]:
                del self._parts[old]
            return dict(parts)
