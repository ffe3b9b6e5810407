"""Choose rows of a table by key: by what a column holds, never by position."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute

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
