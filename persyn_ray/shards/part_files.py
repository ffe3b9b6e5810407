"""Part files of a table: a folder and a shard in, the rows of that shard out, whoever wrote them.

A table grows by parts, each written once and never changed, so that writers on any node, and runs
that share a folder, never overwrite one another. `shard-000004.0002-WRITER.parquet` holds rows of
one shard; `shards-000004-000019.0007-WRITER.parquet` holds rows of several, with their shards in a
column of its own and in the order of shards, so that only the row groups of one are read.
`shard-000004.parquet`, without a number, comes before all others. A part that is no table (half
written, overwritten) counts as absent; one that is damaged inside is an error.

Where two parts hold a row of the same key, the first by number that is no failure counts, for every
reader: a later part has a higher number, so what was there stays what it was. Compaction
(`compaction.py`) puts parts together and then removes them: a reader that finds one gone lists the
folder again.
"""

import logging
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from persyn_ray.errors import DamagedError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.schemas import RESPONSE_HASH

logger = logging.getLogger(__name__)

FAILED = ("error", "missing", "unavailable")
"""Finish reasons of a response that is not there."""
SHARD = pa.field("shard", pa.int32(), nullable=False)
"""Column of a part of several shards: the number of each row's shard."""
NAME = re.compile(r"shards?-(\d+)(?:-(\d+))?(?:\.(\d+)-([^.]+))?\.parquet")
ATTEMPTS = 5  # listings of a folder whose parts are being put together meanwhile


@dataclass(frozen=True, order=True)
class Part:
    """One file of a table, and which shards its rows may be of; parts sort as they count."""

    number: int
    writer: str
    name: str
    first: int
    last: int

    @property
    def has_many_shards(self) -> bool:
        """Whether its rows say of which shard they are."""
        return self.name.startswith("shards-")


def part_name(shards: Iterable[int], number: int, writer: str) -> str:
    """File name of a new part with rows of some shards."""
    first, last = min(shards), max(shards)
    where = f"shard-{first:06d}" if first == last else f"shards-{first:06d}-{last:06d}"
    return f"{where}.{number:04d}-{writer}.parquet"


def shard_number(shard: str) -> int:
    """The number in a shard's name."""
    match = NAME.fullmatch(shard)
    assert match is not None, f"{shard!r} is no name of a shard"
    return int(match[1])


def parts_in(folder: Folder, shard: str | None = None) -> list[Part]:
    """The parts of a table in the order in which they count, or those with rows of one shard."""
    found: list[Part] = []
    for name in folder.names(".parquet"):
        match = NAME.fullmatch(name)
        if match is not None:
            first, last, number, writer = match.groups()
            found.append(Part(int(number or 0), writer or "", name, int(first), int(last or first)))
    if shard is not None:
        wanted = shard_number(shard)
        found = [part for part in found if part.first <= wanted <= part.last]
    return sorted(found)


def existing(
    folder: Folder, shard: str, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a shard that are already there, or some columns of them; of several parts one row
    for each key (see `one_per_key`). A part that is no table counts as absent.

    Raises:
        DamagedError: a part is damaged inside.
    """
    asked = schema.names if columns is None else list(columns)
    keys = ("prompt_id", "finish_reason", RESPONSE_HASH.name)
    read = list(dict.fromkeys([*asked, *(name for name in keys if name in schema.names)]))
    tables = _tables(folder, shard, read)
    if not tables:
        return schema.empty_table().select(asked)
    table = pa.concat_tables(tables)
    return (table if len(tables) == 1 else one_per_key(table)).select(asked)


def shards_in(folder: Folder) -> set[str]:
    """Names of the shards that have rows in a folder."""
    numbers: set[int] = set()
    for part in parts_in(folder):
        if not part.has_many_shards:
            numbers.add(part.first)
        elif (table := rows_of_part(folder, part, [], None)) is not None:
            numbers.update(table[SHARD.name].unique().to_pylist())
    return {f"shard-{number:06d}.parquet" for number in numbers}


def rows_by_part(
    folder: Folder, shard: str, columns: list[str], known: Container[str] = ()
) -> dict[Part, pa.Table | None]:
    """Each part's rows of a shard, or None for one that is no table; parts never change.

    A part that is gone by the time it is read has been put into another one, which the next listing
    shows: what was read before stays read, so that a reader ends however many parts go meanwhile.

    Args:
        known: names of parts that are left out.
    """
    found: dict[Part, pa.Table | None] = {}
    for _ in range(ATTEMPTS):
        is_whole = True
        for part in parts_in(folder, shard):
            if part not in found and part.name not in known:
                try:
                    found[part] = rows_of_part(folder, part, columns, shard)
                except FileNotFoundError:
                    is_whole = False
        if is_whole:
            return found
    raise DamagedError(f"The parts of {shard} in {folder.address} change faster than one can read.")


def ids_of_shard(folder: Folder, shard: str) -> list[str]:
    """Prompts of a shard that a table has rows of; some of them perhaps more than once."""
    tables = rows_by_part(folder, shard, ["prompt_id"]).values()
    return [
        name for table in tables if table is not None for name in table["prompt_id"].to_pylist()
    ]


def all_rows(folder: Folder, schema: pa.Schema) -> pa.Table:
    """All rows of a table, one for each key."""
    shards = sorted(shards_in(folder))
    return pa.concat_tables(
        [schema.empty_table(), *(existing(folder, shard, schema) for shard in shards)]
    )


def one_per_key(table: pa.Table) -> pa.Table:
    """The first row of each key, or the first that is no failure if there is one.

    The key is the prompt, and with scores also the response that they were made for.
    """
    keys: list[object] = table["prompt_id"].to_pylist()
    if RESPONSE_HASH.name in table.column_names:
        keys = list(zip(keys, table[RESPONSE_HASH.name].to_pylist(), strict=True))
    is_failed = [False] * len(keys)
    if "finish_reason" in table.column_names:
        is_failed = [reason in FAILED for reason in table["finish_reason"].to_pylist()]
    first: dict[object, int] = {}
    for place in sorted(range(len(keys)), key=is_failed.__getitem__):
        first.setdefault(keys[place], place)
    if len(first) == table.num_rows:
        return table
    chosen = set(first.values())
    return table.filter(pa.array([place in chosen for place in range(len(keys))], pa.bool_()))


def _tables(folder: Folder, shard: str, columns: list[str]) -> list[pa.Table]:
    """The rows of a shard part by part, in the order in which they count."""
    read = rows_by_part(folder, shard, columns)
    found = [table for part in sorted(read) if (table := read[part]) is not None]
    return [table for table in found if table.num_rows] or found[:1]


def rows_of_part(
    folder: Folder,
    part: Part,
    columns: Sequence[str],
    shard: str | None,
    ids: pa.Array | pa.ChunkedArray | None = None,
) -> pa.Table | None:
    """A part's rows of one shard, or (with the column of shards) of all; None if it is no table.

    Args:
        ids: of the prompts whose rows are asked for, by default all. Row groups that cannot hold
            them are not read.

    Raises:
        FileNotFoundError: the part is gone.
        DamagedError: it is a table, but damaged inside. Its rows are not taken for absent: those
            columns that can still be read would tell others that they are there.
    """
    among: dict[str, list[Any]] = {}
    if part.has_many_shards and shard is not None:
        among[SHARD.name] = [shard_number(shard)]
    if ids is not None:
        among["prompt_id"] = ids.to_pylist()
    asked = [*columns, SHARD.name] if part.has_many_shards else list(columns)
    try:
        if not among:
            return folder.read_table(part.name, asked)
        table = folder.read_rows(part.name, asked, among)
        return table.drop_columns([SHARD.name]) if SHARD.name in among else table
    except DamagedError as error:
        if _is_table(folder, part.name):
            raise
        logger.warning("%s It counts as absent.", error)
        return None


def _is_table(folder: Folder, name: str) -> bool:
    """Whether a file has a footer, and so counts as a table when a run looks for damage."""
    try:
        folder.num_rows(name)
    except DamagedError:
        return False
    return True
