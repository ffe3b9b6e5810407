"""What goes wrong with a folder, told in sentences: its place, its disk, its tables."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from persyn_ray.errors import ConfigError, DamagedError, PersynError
from persyn_ray.storage import atomic_files

UNREADABLE = "cannot be read as a table"
"""Words of every error about a damaged table, by which they are known across processes."""

CLIENTS = ("botocore", "aiobotocore", "gcsfs", "google")  # their errors are no OSErrors


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what an object store's client raises (no credentials, no connection) into a sentence."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PermissionError) and "://" not in address:
            raise ConfigError(
                f"Cannot use {address}: {error.strerror}: {error.filename}. Give this user the "
                "right to read and write there, or set `run` to another place."
            ) from error
        is_refused = isinstance(error, PermissionError) and "://" in address
        if not is_refused and not type(error).__module__.startswith(CLIENTS):
            raise
        raise ConfigError(
            f"Cannot use {address}: {error}. Check the address and what its client reads: "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or "
            "GOOGLE_APPLICATION_CREDENTIALS."
        ) from error


def unwritable(address: str, error: OSError) -> ConfigError:
    """That a folder cannot be written to, and what helps."""
    if error.errno in atomic_files.FULL:
        return ConfigError(
            f"The disk of {address} is full ({error.strerror}). Make room there, or set "
            "`run` (`responses.store` for a store) to another place; what is complete stays, "
            "and the same command goes on."
        )
    return ConfigError(f"Cannot write to {address}: {error}. Set `run` to a writable place.")


def damaged(path: str, error: Exception) -> DamagedError:
    """That a file holds no table, in the first line of what its reader says."""
    reason = str(error).partition("\n")[0].rstrip(".")
    return DamagedError(f"{path} {UNREADABLE}: {reason}.")


@contextmanager
def read_as_table(path: str) -> Iterator[None]:
    """Turn what a reader of Parquet raises into a DamagedError; a file that is gone, or that nobody
    may read, is another matter.
    """
    try:
        yield
    except (PersynError, FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, error) from error
