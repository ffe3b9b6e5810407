"""Folders on any fsspec file system: read, list, and write so that a half-written file is never
seen.

A file is written under a temporary name and renamed. Object stores make a file visible only when it
is complete, so there the rename is just a copy.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from persyn_ray.errors import ConfigError


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
        return fsspec.core.url_to_fs(self.address)

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
        fs.invalidate_cache()
        return fs.exists(self.path(name) if name else root)

    def names(self, suffix: str = "") -> list[str]:
        """Names directly in this folder, sorted, without temporary files; none if missing."""
        fs, root = self._opened
        fs.invalidate_cache()
        if not fs.isdir(root):
            return []
        found = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(root, detail=False))
        return sorted(
            name for name in found if name.endswith(suffix) and not name.startswith(".tmp-")
        )

    def remove(self, name: str = "") -> None:
        """Delete a file or a whole folder, if it is there."""
        fs, root = self._opened
        target = self.path(name) if name else root
        if fs.exists(target):
            fs.rm(target, recursive=True)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file under a temporary name, then rename it."""
        fs, root = self._opened
        temporary = f"{root.rstrip('/')}/.tmp-{uuid.uuid4().hex}"
        try:
            fs.makedirs(self.path(name).rsplit("/", 1)[0], exist_ok=True)
            fs.makedirs(root, exist_ok=True)
            with fs.open(temporary, "wb") as file:
                file.write(data)  # pyright: ignore[reportArgumentType]
            fs.mv(temporary, self.path(name))
        except OSError as error:
            raise ConfigError(
                f"Cannot write to {self.address}: {error}. Set `run` to a writable place."
            ) from error

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8 text; see `write_bytes`."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write indented JSON; see `write_bytes`."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one Parquet file; see `write_bytes`."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_bytes(self, name: str) -> bytes:
        """A file's content."""
        fs, _ = self._opened
        with fs.open(self.path(name), "rb") as file:
            return file.read()  # pyright: ignore[reportReturnType]

    def read_text(self, name: str) -> str:
        """A file's content as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """A JSON file's value."""
        return json.loads(self.read_bytes(name))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One Parquet file; the schema's metadata is kept."""
        return pq.read_table(pa.BufferReader(self.read_bytes(name)), columns=columns)

    def num_rows(self, name: str) -> int:
        """Rows of a Parquet file, from its footer."""
        fs, _ = self._opened
        with fs.open(self.path(name), "rb") as file:
            return pq.read_metadata(file).num_rows

    def tables(self, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """The Parquet files of this folder one by one, in the order of their names."""
        for name in self.names(".parquet"):
            yield name, self.read_table(name, columns)

    def upload(self, source: Path) -> None:
        """Replace this folder by a copy of a local folder."""
        fs, root = self._opened
        self.remove()
        fs.makedirs(root.rsplit("/", 1)[0], exist_ok=True)
        fs.put(f"{source}/", f"{root}/", recursive=True)

    def download(self, target: Path) -> Path:
        """Copy this folder into a local one, or name the folder itself when it is local."""
        fs, root = self._opened
        if self.is_local:
            return self.local_path
        fs.get(f"{root}/", f"{target}/", recursive=True)
        return target


def shard_name(index: int) -> str:
    """File name of a shard: the same in every table."""
    return f"shard-{index:06d}.parquet"
