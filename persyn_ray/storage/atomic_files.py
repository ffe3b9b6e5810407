"""Atomic, fsynced writes of local files: whole or absent, also after a power loss.

A file is written under a temporary name beside its place, brought to the disk, renamed, and its
folder brought to the disk. A temporary name says who writes: `.tmp-PROCESSES-PID-RANDOM`, so that
those of writers that have died can be told apart and removed.
"""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from persyn_ray.errors import ConfigError
from persyn_ray.storage import processes

PREFIX = ".tmp-"
_NAME = re.compile(r"\.tmp-([0-9a-f]{16})-([0-9]+)-[0-9a-f]{32}")
ABANDONED_SECONDS = 24 * 3600.0
"""After so long a temporary file of another machine has no writer."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


def temporary_name() -> str:
    """A name for a file of this process that nobody else uses."""
    return f"{PREFIX}{processes.processes()}-{os.getpid()}-{uuid.uuid4().hex}"


def write(path: str, data: bytes) -> None:
    """Write a file so that its name shows all of it or what was there before."""
    with _temporary(path, data) as temporary:
        os.replace(temporary, path)


def create(path: str, data: bytes) -> bool:
    """Write a file that is not there, all at once; False if it is. Of several one succeeds."""
    with _temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in FULL:
                raise
            return _create_in_place(path, data)  # a file system without hard links
    return True


@contextmanager
def writing_to(place: str | Path) -> Iterator[None]:
    """A failure to write what a command was asked for, as a `ConfigError` that names the place."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(
            f"Cannot write to {place}: {why}. Make room there, or give another place."
        ) from error


@contextmanager
def scratch_folder(beside: Path | None) -> Iterator[Path]:
    """A folder for files that are moved later, in `beside` (None: the system's), gone afterwards.

    What writers that were killed left in `beside` goes first.
    """
    if beside is None:
        with TemporaryDirectory(prefix=PREFIX) as scratch:
            yield Path(scratch)
        return
    beside.mkdir(parents=True, exist_ok=True)
    for path in beside.iterdir():
        if _NAME.fullmatch(path.name) and path.is_dir() and _is_abandoned(str(path)):
            shutil.rmtree(path, ignore_errors=True)
    mine = beside / temporary_name()
    mine.mkdir()
    try:
        yield mine
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def remove_abandoned(folder: str) -> int:
    """Remove temporary files below a folder whose writers have died; returns how many."""
    num_removed = 0
    for root, _, names in os.walk(folder):
        for name in filter(_NAME.fullmatch, names):
            path = os.path.join(root, name)
            with suppress(OSError):  # somebody else may be at it, or it is not ours to remove
                if _is_abandoned(path):
                    os.unlink(path)
                    num_removed += 1
    return num_removed


def _is_abandoned(path: str) -> bool:
    match = _NAME.fullmatch(os.path.basename(path))
    assert match is not None
    if match[1] == processes.processes() and not processes.is_running(int(match[2])):
        return True
    return time.time() - os.stat(path).st_mtime > ABANDONED_SECONDS


def sync_all(folder: str) -> None:
    """Bring what others have written into a folder to the disk."""
    for root, _, names in os.walk(folder):
        for path in (*(os.path.join(root, name) for name in names), root):
            _sync(path)


@contextmanager
def _temporary(path: str, data: bytes) -> Iterator[str]:
    """A file with this content on the disk, beside a path; gone afterwards."""
    folder = os.path.dirname(path)
    _make(folder)
    temporary = os.path.join(folder, temporary_name())
    try:
        with open(temporary, "xb") as file:
            _fill(file, data)
        yield temporary
        _sync(folder)
    finally:
        with suppress(OSError):  # renamed
            os.unlink(temporary)


def _create_in_place(path: str, data: bytes) -> bool:
    try:
        with open(path, "xb") as file:
            try:
                _fill(file, data)
            except BaseException:
                os.unlink(path)
                raise
    except FileExistsError:
        return False
    return True


def _fill(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _make(folder: str) -> None:
    """Make a folder and those above it, each entered in the one above on the disk."""
    missing = [one for one in (Path(folder), *Path(folder).parents) if not one.exists()]
    os.makedirs(folder, exist_ok=True)
    for one in missing:
        _sync(str(one.parent))


def _sync(path: str) -> None:
    """Bring a file, or a folder's entries, to the disk, where the file system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _CANNOT:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)
