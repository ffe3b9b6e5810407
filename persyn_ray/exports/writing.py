"""Files of an export, written row by row: Parquet, JSON Lines, YAML and JSON.

Data go into Parquet wherever the tool reads it: the JSON loader that most tools share guesses types
and turns texts that are all dates into timestamps. JSON Lines are ASCII: some loaders split lines
at U+2028 and its like, which JSON would leave as they are, and none splits at an escape.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROWS_PER_GROUP = 4096


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write one object a line; returns the number of lines."""
    num_rows = 0
    with _opened(path) as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            num_rows += 1
    return num_rows


def write_parquet(path: Path, rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> int:
    """Write rows as one Parquet file, a row group at a time; returns the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    num_rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            num_rows += len(group)
    return num_rows


def write_json(path: Path, value: object) -> None:
    """Write one JSON value, indented."""
    with _opened(path) as file:
        file.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Mapping[str, object], comment: str) -> None:
    """Write settings below a comment."""
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    with _opened(path) as file:
        file.write(lines + yaml.safe_dump(dict(value), sort_keys=False))


def _groups(rows: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    waiting = iter(rows)
    while group := list(islice(waiting, ROWS_PER_GROUP)):
        yield group


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", newline="\n")
