"""Stretches of a file's rows: a file in; so many rows at once as an Arrow table and as Python
values out.

Columns of parquet keep their types. JSON and CSV have none: a column of a stretch is what Arrow
makes of its values, and where it makes nothing of them (numbers beside texts, objects of several
shapes or without keys, bytes that are no UTF-8) it is the values' JSON, which `JSON_TEXT` on the
field says. A row that cannot be read is a row of nulls in the table.
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.data.files.opening import blamed, opened, suffix_of
from persyn_ray.data.files.rows import BadRow, Row, batch_rows, rows_of

JSON_TEXT = {b"persyn": b"json"}
"""Metadata of a field whose texts are JSON, made here."""


class Stretch(NamedTuple):
    """Consecutive rows of a file."""

    table: pa.Table
    """All columns."""
    numbers: list[int]
    """Of the rows, from 1; see `rows_of`."""
    rows: list[Row | BadRow]
    """As Python values; of parquet only the columns asked for."""


def stretches_of(file: str, columns: Sequence[str], num_rows: int) -> Iterator[Stretch]:
    """A file's rows, so many at a time; `columns` are those that are read as Python values.

    Raises:
        DataError: the file is damaged.
    """
    if suffix_of(file.partition("::")[0]) == ".parquet":
        yield from _of_parquet(file, columns, num_rows)
        return
    found = rows_of(file)
    while chunk := list(islice(found, num_rows)):
        numbers, rows = zip(*chunk, strict=True)
        yield Stretch(table_of(rows), list(numbers), list(rows))


def columns_at_start(file: str, num_rows: int = 1000) -> list[str]:
    """Names of columns, as far as the first rows have them.

    Raises:
        DataError: the file is damaged.
    """
    if suffix_of(file.partition("::")[0]) == ".parquet":
        with blamed(file), opened(file) as handle:
            return list(pq.read_schema(handle).names)
    rows = (row for _, row in islice(rows_of(file), num_rows) if not isinstance(row, BadRow))
    return list(dict.fromkeys(name for row in rows for name in row))


def table_of(rows: Sequence[Row | BadRow]) -> pa.Table:
    """Rows of JSON or CSV as a table; see above for columns that Arrow has no type for."""
    readable = [{} if isinstance(row, BadRow) else row for row in rows]
    names = list(dict.fromkeys(name for row in readable for name in row))
    columns = {_written(name): [_plain(row.get(name)) for row in readable] for name in names}
    made = [_column(name, values) for name, values in columns.items()]
    arrays, fields = [array for _, array in made], [field for field, _ in made]
    if not made:  # a table of no columns forgets how many rows it has
        return pa.table({"unreadable": pa.nulls(len(rows), pa.string())})
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def as_json_text(values: Sequence[Any]) -> pa.Array:
    """Each value as JSON, null as null."""
    texts = [None if value is None else json.dumps(value, default=str) for value in values]
    return pa.array(texts, pa.string())


def _column(name: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    try:
        array = pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError, TypeError):
        array = None
    if array is None or _is_unwritable(array.type):
        return pa.field(name, pa.string(), metadata=JSON_TEXT), as_json_text(values)
    return pa.field(name, array.type), array


def _is_unwritable(kind: pa.DataType) -> bool:
    """Whether an object without keys is all that stands somewhere: parquet has no type for it."""
    if pa.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_is_unwritable(kind.field(place).type) for place in range(kind.num_fields))


def _plain(value: Any) -> Any:
    """Numbers as Arrow has them: digits as they were written matter in texts alone."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _written(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _of_parquet(file: str, columns: Sequence[str], num_rows: int) -> Iterator[Stretch]:
    start = 1
    for table in _tables(file, num_rows):
        wanted = [name for name in columns if name in table.column_names]
        batches = table.select(wanted).combine_chunks().to_batches()
        rows: list[Row | BadRow] = [row for batch in batches for row in batch_rows(batch)]
        yield Stretch(table, list(range(start, start + table.num_rows)), rows)
        start += table.num_rows


def _tables(file: str, num_rows: int) -> Iterator[pa.Table]:
    """Tables of exactly so many rows, but for the last; one of none for a file without rows."""
    with blamed(file), opened(file) as handle:
        source = pq.ParquetFile(handle)
        waiting = source.schema_arrow.empty_table()
        for batch in source.iter_batches(num_rows):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
            while waiting.num_rows >= num_rows:
                yield waiting.slice(0, num_rows)
                waiting = waiting.slice(num_rows)
        if waiting.num_rows or not source.metadata.num_rows:
            yield waiting
