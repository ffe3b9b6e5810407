"""Rows of parquet, jsonl, json and csv files, wherever they lie; one row at a time.

An address is a path, a glob, any fsspec address (`s3://bucket/*.parquet`) or
`package:IMPORT_NAME/path` inside an installed package (found without importing it). Files are told
apart by their ending; jsonl and csv may be compressed (`.gz`, `.zst`). A row that cannot be read is
handed on as `BadRow`, so that the caller decides; a file that cannot be read is an error.
"""

import csv
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.errors import ConfigError, DataError

Row = dict[str, Any]
PACKAGE = "package:"
_ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv")
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_BATCH_ROWS = 1024
_FIRST_ROWS = 100  # rows of a jsonl file whose keys stand for its columns


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why."""

    detail: str


def expand(paths: str | Sequence[str], setting: str) -> list[str]:
    """The files that paths and globs name, in order; `setting` is what an error tells to change.

    Raises:
        ConfigError: a path names no file, or a file of another kind.
    """
    files: list[str] = []
    for path in (paths,) if isinstance(paths, str) else paths:
        address = _in_package(path, setting) if path.startswith(PACKAGE) else path
        found = _glob(address, setting)
        if not found:
            raise ConfigError(f"No file at {path!r}: set {setting} to an existing file or glob.")
        files.extend(found)
    for file in files:
        if _ending(file) not in _ENDINGS:
            raise ConfigError(
                f"{file} ends in none of {', '.join(_ENDINGS)} (text files may be compressed: "
                f"{', '.join(_COMPRESSIONS)}): set {setting} to such a file."
            )
    return files


def columns_of(file: str) -> list[str]:
    """Names of a file's columns; for jsonl the keys of its first rows."""
    if _ending(file) == ".parquet":
        with _opened(file) as handle:
            return list(_schema(handle, file).names)
    if _ending(file) == ".csv":
        with _opened_text(file) as handle:
            return next(csv.reader(handle), [])
    first = (row for _, row in islice(rows_of(file), _FIRST_ROWS) if not isinstance(row, BadRow))
    return list(dict.fromkeys(key for row in first for key in row))


def rows_of(file: str, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Row | BadRow]]:
    """The rows with their numbers, from 1 (csv: the header is not counted).

    Text that is no UTF-8 comes with lone surrogates in place of the bad bytes.

    Raises:
        DataError: the file is damaged.
    """
    ending = _ending(file)
    readers = {".parquet": _parquet_rows, ".csv": _csv_rows, ".json": _json_rows}
    rows = readers.get(ending, _jsonl_rows)(file, columns)
    yield from ((number, row) for number, row in enumerate(rows, start=1) if row is not None)


def _parquet_rows(file: str, columns: Sequence[str] | None) -> Iterator[Row | BadRow]:
    with _opened(file) as handle:
        _schema(handle, file)
        batches = pq.ParquetFile(handle).iter_batches(
            _BATCH_ROWS, columns=None if columns is None else list(columns)
        )
        try:
            for batch in batches:
                yield from _batch_rows(batch)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} is damaged: {error}") from error


def _batch_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # one bad value must not take its neighbours along
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield BadRow(f"no valid UTF-8: {error.reason}")


def _csv_rows(file: str, columns: Sequence[str] | None) -> Iterator[Row | BadRow]:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long responses
    with _opened_text(file) as handle:
        try:
            for row in csv.DictReader(handle):
                if None in row or None in row.values():
                    yield BadRow("the row has more or fewer fields than the header")
                else:
                    yield dict(row)
        except csv.Error as error:
            raise DataError(f"{file} is no valid CSV: {error}") from error


def _jsonl_rows(file: str, columns: Sequence[str] | None) -> Iterator[Row | BadRow | None]:
    """One object a line; an empty line counts as a line but is no row."""
    with _opened_text(file) as handle:
        for line in handle:
            yield _object(line) if line.strip() else None


def _json_rows(file: str, columns: Sequence[str] | None) -> Iterator[Row | BadRow | None]:
    """A file of one JSON list; one object a line is understood too."""
    with _opened_text(file) as handle:
        is_list = handle.read(1024).lstrip().startswith("[")
    if not is_list:
        yield from _jsonl_rows(file, columns)
        return
    with _opened_text(file) as handle:
        try:
            values = json.load(handle)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} is no valid JSON: {error}") from error
    for value in values:
        yield value if isinstance(value, dict) else BadRow(f"no JSON object: {str(value)[:80]!r}")


def _object(line: str) -> Row | BadRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(f"no valid JSON: {error}")
    return value if isinstance(value, dict) else BadRow(f"no JSON object: {line[:80]!r}")


def _schema(handle: Any, file: str) -> pa.Schema:
    try:
        return pq.read_schema(handle)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is no readable parquet file: {error}") from error


def _glob(address: str, setting: str) -> list[str]:
    """Files of an address, sorted, each in a form that fsspec opens again."""
    try:
        fs, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"Cannot open {address!r} (set {setting}): {error}") from error
    files = _files(fs, path)
    return [fs.unstrip_protocol(name) for name in files] if "://" in address else files


def _files(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    # A name with brackets in it is a name first and a pattern second.
    if fs.isfile(path):
        return [path]
    names = [str(name) for name in fs.glob(path)] if any(mark in path for mark in "*?[") else []
    return sorted(name for name in names if fs.isfile(name))


def _in_package(path: str, setting: str) -> str:
    name, _, inside = path.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{path!r} names no installed package {name!r}: install it or set {setting}."
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / inside)


def _ending(file: str) -> str:
    path = Path(file)
    return Path(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix


def _opened(file: str) -> Any:
    return fsspec.open(file, "rb")


def _opened_text(file: str) -> TextIO:
    settings = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    return fsspec.open(file, "rt", compression="infer", **settings)  # pyright: ignore[reportReturnType]
