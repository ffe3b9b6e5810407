"""What goes wrong with a folder is a sentence with its place and a remedy; other errors stay."""

import errno
import os
from types import new_class

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.storage.folder_errors import CLIENTS, damaged, explained, unwritable


def of_client(module: str) -> type[Exception]:
    """An error class of an object store's client."""
    return new_class("ClientError", (Exception,), exec_body=lambda ns: ns.update(__module__=module))


@pytest.mark.parametrize("client", CLIENTS)
def test_errors_of_object_stores_name_the_address_and_what_their_clients_read(client: str) -> None:
    error = of_client(f"{client}.exceptions")("no credentials")
    with (
        pytest.raises(
            ConfigError, match=r"s3://b/run: no credentials\. .*AWS_ACCESS_KEY_ID"
        ) as told,
        explained("s3://b/run"),
    ):
        raise error
    assert told.value.__cause__ is error


def test_a_refusal_by_an_object_store_is_not_told_as_a_local_one() -> None:
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"), explained("s3://b/run"):
        raise PermissionError("Forbidden")
    with (
        pytest.raises(ConfigError, match="Give this user the right to read and write") as told,
        explained("/srv/run"),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/run/x")
    assert "/srv/run/x" in str(told.value)
    assert "AWS" not in str(told.value)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), KeyError("x"), ValueError("x")])
def test_errors_of_the_program_itself_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), explained("s3://b/run"):
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_from_a_place_that_takes_no_files(number: int) -> None:
    full = str(unwritable("/srv/run", OSError(number, os.strerror(number))))
    assert full.startswith("The disk of /srv/run is full")
    assert "the same command goes on" in full
    other = str(unwritable("/srv/run", OSError(errno.EROFS, os.strerror(errno.EROFS))))
    assert "Set `run` to a writable place" in other
    assert "full" not in other


def test_a_damaged_table_is_told_in_one_line() -> None:
    error = ValueError("Parquet magic bytes not found.\nEither the file is corrupted\nor …")
    told = str(damaged("/run/x.parquet", error))
    assert told == "/run/x.parquet cannot be read as a table: Parquet magic bytes not found."
