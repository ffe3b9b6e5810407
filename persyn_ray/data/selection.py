"""Choose rows of a table by key: by what a column holds, never by position."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

pc: Any = compute  # its functions are made at import, where a type checker does not see them

Values = pa.ChunkedArray | pa.Array | Sequence[Any]


def where(table: pa.Table, column: str, value: Any) -> pa.Table:
    """Rows whose column equals a value."""
    return table.filter(pc.equal(table[column], value))


def among(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Rows whose column holds one of some values."""
    return table.filter(_is_in(table, column, values))


def without(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Rows whose column holds none of some values."""
    return table.filter(pc.invert(_is_in(table, column, values)))


def take_rows(table: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """Rows by their places, in the order of these; of a long table nothing else is copied."""
    # `Table.take` puts all chunks together first, whatever few rows are taken.
    batches = table.to_batches()
    if not batches:
        return table
    ends = np.cumsum([batch.num_rows for batch in batches])
    by_row = np.argsort(places, kind="stable")
    stretches = np.split(places[by_row], np.searchsorted(places[by_row], ends[:-1]))
    parts = [
        batch.take(pa.array(rows - (end - batch.num_rows)))
        for batch, end, rows in zip(batches, ends, stretches, strict=True)
        if len(rows)
    ]
    back = np.empty_like(by_row)
    back[by_row] = np.arange(len(by_row))
    return pa.Table.from_batches(parts, table.schema).combine_chunks().take(back)


def total(table: pa.Table, column: str) -> int:
    """Sum of a column of whole numbers; 0 for no rows."""
    return pc.sum(table[column]).as_py() or 0


def _is_in(table: pa.Table, column: str, values: Values) -> Any:
    known: Any = values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)
    return pc.is_in(table[column], value_set=known.cast(table[column].type))


def seeded_draw(seed: int, key: str) -> int:
    """64 random bits that a key and a seed decide, whatever else is drawn."""
    digest = blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
