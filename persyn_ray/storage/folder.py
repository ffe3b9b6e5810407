"""Folders on any fsspec file system: read, list, and write so that a half-written file is never
seen.

A file is written under a temporary name and renamed, on a disk so that a power loss does not undo
it (see `atomic_files`). Object stores make a file visible only when it is complete and cannot
rename, so there it is written at once. Pages of tables carry checksums, which readers verify:
without them half of all flipped bits would go unseen as other words. A table that cannot be read is
a DamagedError: whoever makes it may make it anew; a place that cannot be reached is another error.
"""

import errno
import json
import logging
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from persyn_ray.errors import ConfigError, DamagedError, DataError
from persyn_ray.storage import atomic_files
from persyn_ray.storage.folder_errors import damaged, explained, read_as_table, unwritable

logger = logging.getLogger(__name__)

pc: Any = compute  # its functions are made at import, where a type checker does not see them
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}


@dataclass(frozen=True)
class Folder:
    """A folder by its address (`runs/x`, `s3://bucket/runs/x`); picklable, opened on first use."""

    address: str

    @classmethod
    def absolute(cls, address: str) -> "Folder":
        """The same folder for every process, whatever its working folder."""
        return cls(address if "://" in address else str(Path(address).expanduser().absolute()))

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            # Other processes write here too, so nothing is ever taken from a remembered listing.
            return fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"Cannot open {self.address}: {error}. s3:// needs `pip install persyn-ray[s3]`, "
                "gs:// needs persyn-ray[gcs]."
            ) from error

    @property
    def _is_object_store(self) -> bool:
        protocol = self._opened[0].protocol
        return bool(OBJECT_STORES & {protocol, *protocol})

    @property
    def is_local(self) -> bool:
        """Whether the folder is an ordinary folder of this machine."""
        return isinstance(self._opened[0], LocalFileSystem)

    @property
    def local_path(self) -> Path:
        """The folder as a path; raises ConfigError on a remote file system."""
        if not self.is_local:
            raise ConfigError(f"{self.address} is not a local folder.")
        return Path(self._opened[1])

    def __getstate__(self) -> dict[str, str]:
        return {"address": self.address}

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.address.rstrip('/')}/{name}")

    def path(self, name: str) -> str:
        """Path of `name` on this folder's file system (without protocol)."""
        return f"{self._opened[1].rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of this name is there now."""
        fs, root = self._opened
        with explained(self.address):
            return fs.exists(self.path(name) if name else root)

    def names(self, suffix: str = "", prefix: str = "") -> list[str]:
        """Names directly in this folder, sorted, without temporary files; none if missing.

        Args:
            prefix: of files alone; an object store then lists no others.
        """
        fs, root = self._opened
        with explained(self.address):
            if prefix and self._is_object_store:
                entries = fs.find(root, prefix=prefix)
            else:
                entries = fs.ls(root, detail=False) if fs.isdir(root) else []
        # An object store's console may leave an object with the folder's own name.
        paths = (str(entry).rstrip("/") for entry in entries)
        found = (path.rsplit("/", 1)[-1] for path in paths if path != root.rstrip("/"))
        return sorted(
            name
            for name in found
            if name.endswith(suffix)
            and name.startswith(prefix)
            and not name.startswith(atomic_files.PREFIX)
        )

    def names_below(self, suffix: str) -> list[str]:
        """Paths of files at or below this folder, relative to it and sorted."""
        fs, root = self._opened
        with explained(self.address):
            found = [str(path) for path in fs.find(root)]
        start = len(root.rstrip("/")) + 1
        return sorted(path[start:] for path in found if path.endswith(suffix))

    def is_below(self, other: "Folder") -> bool:
        """Whether this folder lies below another, or would, with all links followed."""
        ours, theirs = self._place, other._place
        return ours != theirs and ours.startswith(theirs.rstrip("/") + "/")

    @property
    def _place(self) -> str:
        path = self._opened[1]
        return os.path.realpath(path) if self.is_local else f"/{path.strip('/')}"

    def remove(self, name: str = "") -> None:
        """Delete a file or a whole folder, if it is there; of a link only the link.

        Folders of a run are removed by `layout.Run.remove`.
        """
        fs, root = self._opened
        target = (self.path(name) if name else root).rstrip("/")
        if self.is_local and os.path.islink(target):
            os.unlink(target)
        elif fs.exists(target):
            fs.rm(target, recursive=True)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file so that its name shows all of it or what was there before."""
        try:
            with explained(self.address):
                if self._is_object_store:
                    self._opened[0].pipe_file(self.path(name), data)
                elif self.is_local:
                    atomic_files.write(self.path(name), data)
                else:
                    self._write_and_rename(name, data)
        except OSError as error:
            raise unwritable(self.address, error) from error

    def create_bytes(self, name: str, data: bytes) -> bool:
        """Write a file that is not there; False if it is. Of several writers one succeeds."""
        if self.is_local:
            try:
                return atomic_files.create(self.path(name), data)
            except OSError as error:
                raise unwritable(self.address, error) from error
        try:
            with explained(self.address):
                self._opened[0].pipe_file(self.path(name), data, mode="create")
            return True
        except (OSError, ConfigError) as error:  # clients differ in how they say that it is there
            if self.exists(name):
                return self.read_bytes(name) == data  # ours, if the first try got no answer
            if isinstance(error, ConfigError):
                raise
            raise unwritable(self.address, error) from error

    def require_space(self, num_bytes: int) -> None:
        """Refuse to go on where a disk has no room for what is about to be made.

        Raises:
            ConfigError: the disk is full.
        """
        if not self.is_local:
            return
        place = self.local_path
        there = next(one for one in (place, *place.parents) if one.exists())
        if shutil.disk_usage(there).free < num_bytes:
            raise unwritable(self.address, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _write_and_rename(self, name: str, data: bytes) -> None:
        fs, root = self._opened
        temporary = f"{root.rstrip('/')}/{atomic_files.temporary_name()}"
        fs.makedirs(self.path(name).rsplit("/", 1)[0], exist_ok=True)
        fs.makedirs(root, exist_ok=True)
        try:
            with fs.open(temporary, "wb") as file:
                file.write(data)  # pyright: ignore[reportArgumentType]
            fs.mv(temporary, self.path(name))
        except BaseException:
            if fs.exists(temporary):
                fs.rm_file(temporary)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8 text; see `write_bytes`."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write indented JSON; see `write_bytes`."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, table: pa.Table, rows_per_group: int | None = None) -> None:
        """Write one Parquet file; see `write_bytes`."""
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=rows_per_group,
            compression="zstd",
            write_page_checksum=True,
        )
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_bytes(self, name: str) -> bytes:
        """A file's content."""
        fs, _ = self._opened
        with explained(self.address):
            # In one request: an opened file fails when it is replaced before it is read.
            return fs.cat_file(self.path(name))  # pyright: ignore[reportReturnType]

    def read_text(self, name: str) -> str:
        """A file's content as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """A JSON file's value.

        Raises:
            DataError: it holds something else.
        """
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise DataError(f"{self.path(name)} is no valid JSON: {error}.") from error

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One Parquet file; the schema's metadata is kept.

        Raises:
            DamagedError: it holds no table, or half of one.
        """
        try:
            data = self.read_bytes(name)  # what goes wrong from here on is in the file
        except IsADirectoryError as error:
            raise damaged(self.path(name), error) from error
        with read_as_table(self.path(name)):
            return pq.read_table(
                pa.BufferReader(data), columns=columns, page_checksum_verification=True
            )

    def read_rows(
        self, name: str, columns: list[str], among: Mapping[str, Sequence[Any]]
    ) -> pa.Table:
        """Rows of a Parquet file whose columns hold one of some values each.

        Row groups that cannot hold them are not read.

        Args:
            among: values by column, none of them null; the columns need not be among those read.

        Raises:
            DamagedError: it holds no table, or half of one.
        """
        asked = list(dict.fromkeys([*columns, *among]))
        with self.parquet(name) as file:
            groups = _groups_with(file.metadata, among)
            table = file.read_row_groups(groups, columns=asked)
        for column, values in among.items():
            known = pa.array(values, table.schema.field(column).type)
            table = table.filter(pc.is_in(table[column], value_set=known))
        return table.select(columns)

    @contextmanager
    def parquet(self, name: str) -> Iterator[pq.ParquetFile]:
        """A Parquet file while it is open, to read some of its columns or row groups.

        Raises:
            DamagedError: it holds no table, or half of one.
        """
        fs, path = self._opened[0], self.path(name)
        with explained(self.address), fs.open(path, "rb") as file, read_as_table(path):
            yield pq.ParquetFile(file, page_checksum_verification=True)

    def parquet_metadata(self, name: str) -> pq.FileMetaData:
        """The footer of a Parquet file.

        Raises:
            DamagedError: it holds no table, or half of one.
        """
        fs, path = self._opened[0], self.path(name)
        with explained(self.address), fs.open(path, "rb") as file, read_as_table(path):
            return pq.read_metadata(file)

    def require_whole(self, name: str) -> None:
        """Read all of a Parquet file, page by page.

        Raises:
            DamagedError: it holds no table, half of one, or other bytes than were written.
        """
        with self.parquet(name) as file:
            for _ in file.iter_batches():
                pass

    def holds_table(self, name: str) -> bool:
        """Whether a Parquet file is there and whole; one that is not counts as absent."""
        if not self.exists(name):
            return False
        try:
            self.num_rows(name)
        except DamagedError as error:
            logger.warning("%s It is made anew.", error)
            return False
        return True

    def num_rows(self, name: str) -> int:
        """Rows of a Parquet file, from its footer.

        Raises:
            DamagedError: it holds no table, or half of one.
        """
        return self.parquet_metadata(name).num_rows

    def tables(self, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """The Parquet files of this folder one by one, in the order of their names."""
        for name in self.names(".parquet"):
            yield name, self.read_table(name, columns)

    def move_in(self, source: Path, name: str) -> None:
        """Move a local file here, where its name shows all of it or what was there before."""
        target = self.path(name)
        try:
            with explained(self.address):
                if self.is_local:
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(source, target)
                else:
                    self._opened[0].put_file(str(source), target)
        except OSError as error:
            raise unwritable(self.address, error) from error

    def upload(self, source: Path) -> None:
        """Replace this folder by a copy of a local folder."""
        fs, root = self._opened
        self.remove()
        if not self._is_object_store:  # there this would make a missing bucket
            fs.makedirs(root.rsplit("/", 1)[0], exist_ok=True)
        try:
            with explained(self.address):
                fs.put(f"{source}/", f"{root}/", recursive=True)
                if self.is_local:
                    atomic_files.sync_all(root)
        except OSError as error:
            raise unwritable(self.address, error) from error

    def download(self, target: Path) -> Path:
        """Copy this folder into a local one, or name the folder itself when it is local."""
        fs, root = self._opened
        if self.is_local:
            return self.local_path
        fs.get(f"{root}/", f"{target}/", recursive=True)
        return target


def _groups_with(metadata: pq.FileMetaData, among: Mapping[str, Sequence[Any]]) -> list[int]:
    """Row groups of a Parquet file that may hold some values in each of some columns."""
    groups = list(range(metadata.num_row_groups))
    for column, values in among.items():
        place, ordered = metadata.schema.names.index(column), sorted(values)
        groups = [g for g in groups if _may_hold(metadata.row_group(g).column(place), ordered)]
    return groups


def _may_hold(chunk: pq.ColumnChunkMetaData, ordered: Sequence[Any]) -> bool:
    """Whether a column of a row group can hold one of some values, by its least and its most."""
    known = chunk.statistics
    if known is None or not known.has_min_max:
        return True
    place = bisect_left(ordered, known.min)
    return place < len(ordered) and ordered[place] <= known.max


def shard_name(index: int) -> str:
    """File name of a shard: the same in every table."""
    return f"shard-{index:06d}.parquet"
