"""Rows of parquet, jsonl, json and csv files, wherever they lie; one row at a time.

An address is a path, a glob, any fsspec address (`s3://bucket/*.parquet`) or
`package:IMPORT_NAME/path` inside an installed package (found without importing it). Files are told
apart by their ending; text may be compressed (`.gz`, `.bz2`, `.xz`, `.zst`). A row that cannot be
read is handed on as `BadRow`, so that the caller decides; a file that cannot be read is an error.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.data.cells import decoder_of
from persyn_ray.data.files.csv_rows import records_of
from persyn_ray.data.files.json_rows import BadRow, objects_of
from persyn_ray.data.files.opening import COMPRESSIONS, blamed, opened, opened_text, suffix_of
from persyn_ray.errors import ConfigError
from persyn_ray.storage.packages import package_path

Row = dict[str, Any]
PACKAGE = "package:"
_CSV = (".csv", ".tsv")
_JSON = (".jsonl", ".ndjson", ".json")
_ENDINGS = (".parquet", *_JSON, *_CSV)
_BATCH_ROWS = 1024
_MOST_NAMES = 50  # that an error lists


def expand(paths: str | Sequence[str], setting: str) -> list[str]:
    """The files that paths and globs name, in order; `setting` is what an error tells to change.

    Raises:
        ConfigError: a path names no file, or a file of another kind.
    """
    files: list[str] = []
    for path in (paths,) if isinstance(paths, str) else paths:
        address = _in_package(path, setting) if path.startswith(PACKAGE) else path
        files.extend(_glob(path, address, setting))
    for file in files:
        if _ending(file) not in _ENDINGS:
            raise ConfigError(
                f"{file} ends in none of {', '.join(_ENDINGS)} (text files may be compressed: "
                f"{', '.join(COMPRESSIONS)}): set {setting} to such a file."
            )
    return files


def columns_of(file: str) -> list[str]:
    """Names of a file's columns; JSON is read through, for a key may come in the last row only."""
    header = _header(file)
    if header is not None:
        return header
    rows = (row for _, row in rows_of(file) if not isinstance(row, BadRow))
    return list(dict.fromkeys(key for row in rows for key in row))


def rows_with(
    files: Sequence[str], needed: Sequence[str], settings: str, also: Sequence[str] | None = ()
) -> Iterator[tuple[str, int, Row | BadRow]]:
    """File, number (see `rows_of`) and content of all rows of files that have the needed columns.

    Headers are looked at before the first row. JSON has none: there a column is missing when no row
    of any of the files has it, which is known at the end. `settings` is what an error tells to
    change; columns named in `also` (None: all) are read where they are.

    Raises:
        ConfigError: a needed column is missing, or is there twice.
        DataError: a file is damaged.
    """
    headers = {file: _header(file) for file in files}
    for file, header in headers.items():
        if header is not None:
            require(needed, header, file, settings)
    keys = _Keys(needed)
    for file, header in headers.items():
        columns = None
        if header is not None and also is not None:
            columns = [*needed, *(column for column in also if column in header)]
        for number, row in rows_of(file, columns):
            if header is None and not isinstance(row, BadRow):
                keys.add(row)
            yield file, number, row
    if keys.unseen and keys.found:
        texts = [file for file, header in headers.items() if header is None]
        where = texts[0] if len(texts) == 1 else f"None of {len(texts)} files such as {texts[0]}"
        require(needed, list(keys.found), where, settings)


def rows_of(file: str, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Row | BadRow]]:
    """The rows with their numbers, from 1 (csv: the header is not counted).

    Text that is no UTF-8 comes with lone surrogates in place of the bad bytes, an empty field of
    csv as None.

    Raises:
        DataError: the file is damaged.
    """
    ending = _ending(file)
    with blamed(file):
        if ending == ".parquet":
            rows = _parquet_rows(file, columns)
        else:
            rows = _csv_rows(file) if ending in _CSV else _json_rows(file)
        yield from ((number, row) for number, row in enumerate(rows, start=1) if row is not None)


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    """The rows of a batch as Python values, each as what was stored (see `decoder_of`)."""
    decoders = {field.name: decoder_of(field.type) for field in batch.schema}
    known = {name: decode for name, decode in decoders.items() if decode is not None}
    for row in _python_rows(batch):
        if not isinstance(row, BadRow):
            row |= {name: decode(row[name]) for name, decode in known.items()}
        yield row


class Notes:
    """What of a table was not taken as it stands: how often, and where first."""

    def __init__(self) -> None:
        self.counts, self.first = Counter[str](), dict[str, str]()

    def add(self, what: str, where: str) -> None:
        """Count one row."""
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def __str__(self) -> str:
        found = self.counts.most_common(_MOST_NAMES)
        return "; ".join(f"{num:,} {what} (first {self.first[what]})" for what, num in found)


class _Keys:
    """The keys that objects have, of those that are needed; others only to be named."""

    def __init__(self, needed: Sequence[str]) -> None:
        self.unseen, self.found = set(needed), dict[str, None]()

    def add(self, row: Row) -> None:
        if self.unseen:  # else nobody will ask
            self.unseen -= row.keys()
            if len(self.found) <= _MOST_NAMES or not self.unseen.isdisjoint(row):
                self.found |= dict.fromkeys(row)


def _header(file: str) -> list[str] | None:
    """Column names of a file that has a header; None for JSON."""
    with blamed(file):
        if _ending(file) == ".parquet":
            with opened(file) as handle:
                return list(pq.read_schema(handle).names)
        if _ending(file) in _CSV:
            with opened_text(file) as text:
                return _names(records_of(text, file))
    return None


def require(needed: Sequence[str], present: Sequence[str], where: str, settings: str) -> None:
    """Refuse a table in which a needed column is missing or not the only one of its name.

    Raises:
        ConfigError: with the name that is nearest, and the settings that say another.
    """
    absent = [name for name in needed if name not in present]
    if absent:
        near = [(name, nearest(name, present)) for name in absent]
        hints = "".join(f" {one!r} is nearest to {name!r}." for name, one in near if one)
        more = ", …" if len(present) > _MOST_NAMES else ""
        shown = f"[{', '.join(repr(name[:80]) for name in present[:_MOST_NAMES])}{more}]"
        raise ConfigError(f"{where} has no column {absent}; it has {shown}.{hints} Set {settings}.")
    twice = [name for name in needed if present.count(name) > 1]
    if twice:
        raise ConfigError(
            f"{where} has several columns named {twice}, and nothing says which is meant: rename "
            f"them, or set {settings}."
        )


def nearest(name: str, present: Sequence[str]) -> str | None:
    """The name that was probably meant; capitals and white space count for nothing."""
    plain = {one.strip().lower(): one for one in reversed(present)}
    found = get_close_matches(name.strip().lower(), plain, n=1)
    return plain[found[0]] if found else None


def _parquet_rows(file: str, columns: Sequence[str] | None) -> Iterator[Row | BadRow]:
    with opened(file) as handle:
        wanted = None if columns is None else list(columns)
        for batch in pq.ParquetFile(handle).iter_batches(_BATCH_ROWS, columns=wanted):
            yield from batch_rows(batch)


def _python_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    try:
        yield from batch.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError):  # one bad value must not take its neighbours along
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist(maps_as_pydicts="lossy")
            except UnicodeDecodeError as error:
                yield BadRow(f"no valid UTF-8: {error.reason}")
            except (ValueError, OverflowError) as error:
                yield BadRow(f"a value cannot be read: {error}")


def _csv_rows(file: str) -> Iterator[Row | BadRow]:
    with opened_text(file) as text:
        records = records_of(text, file)
        names = _names(records)
        for line, fields in records:
            while len(fields) > len(names) and not fields[-1]:
                fields.pop()  # delimiters at the end of a row say nothing
            if len(fields) == len(names):
                yield {name: field or None for name, field in zip(names, fields, strict=True)}
            else:
                yield BadRow(f"line {line} has {len(fields)} fields, the header {len(names)}")


def _names(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, header = next(records, (0, []))
    return [name.strip() for name in header]


def _json_rows(file: str) -> Iterator[Row | BadRow | None]:
    with opened_text(file) as text:
        yield from objects_of(text, file)


def _glob(path: str, address: str, setting: str) -> list[str]:
    """Files of an address, sorted, each in a form that fsspec opens again."""
    try:
        fs, inside = fsspec.core.url_to_fs(address)
        files = _files(fs, inside)
        is_folder = bool(path) and not files and fs.isdir(inside)
    except Exception as error:  # each storage has its own
        raise ConfigError(f"Cannot open {address!r} (set {setting}): {error}") from error
    if is_folder:
        raise ConfigError(
            f"{path!r} is a folder: set {setting} to the files in it, such as "
            f"{path.rstrip('/') + '/*.parquet'!r}."
        )
    if not files:
        raise ConfigError(f"No file at {path!r}: set {setting} to an existing file or glob.")
    _, link, chain = address.partition("::")
    full = [fs.unstrip_protocol(name) if "://" in address else name for name in files]
    return [f"{name}{link}{chain}" for name in full]


def _files(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    # A name with brackets in it is a name first and a pattern second.
    if fs.isfile(path):
        return [path]
    names = [str(name) for name in fs.glob(path)] if any(mark in path for mark in "*?[") else []
    return sorted(name for name in names if fs.isfile(name))


def _in_package(path: str, setting: str) -> str:
    address = path.removeprefix(PACKAGE)
    found = package_path(address)
    if found is None:
        name = address.partition("/")[0]
        raise ConfigError(
            f"{path!r} names no installed package {name!r}: install it or set {setting}."
        )
    return str(found)


def _ending(file: str) -> str:
    suffix = suffix_of(file)
    return suffix_of(file.partition("::")[0][: -len(suffix)]) if suffix in COMPRESSIONS else suffix
