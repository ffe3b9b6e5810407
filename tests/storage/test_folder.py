"""Folders on any file system: nothing half-written is ever seen under its name."""

import pickle
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.errors import ConfigError, DamagedError
from persyn_ray.storage.folder import Folder, shard_name
from persyn_ray.storage.schemas import rewards_schema


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    address = tmp_path / "x" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return Folder.absolute(str(address))


def test_what_is_written_is_read_back(folder: Folder) -> None:
    folder.write_text("a.txt", "grüß\n")
    folder.write_json("b.json", {"x": [1, None]})
    folder.write_bytes("sub/c.bin", b"\0\1")
    assert folder.read_text("a.txt") == "grüß\n"
    assert folder.read_json("b.json") == {"x": [1, None]}
    assert (folder / "sub").read_bytes("c.bin") == b"\0\1"
    assert folder.names() == ["a.txt", "b.json", "sub"]
    assert folder.names(".json") == ["b.json"]


def test_writing_again_replaces(folder: Folder) -> None:
    folder.write_text("a.txt", "a long first text")
    folder.write_text("a.txt", "second")
    assert folder.read_text("a.txt") == "second"
    assert folder.names() == ["a.txt"]


def test_removing_takes_a_file_or_everything_and_minds_no_absence(folder: Folder) -> None:
    folder.write_text("a.txt", "x")
    folder.write_text("sub/b.txt", "x")
    folder.remove("a.txt")
    folder.remove("a.txt")
    assert folder.names() == ["sub"]
    folder.remove()
    folder.remove()
    assert not folder.exists()
    assert folder.names() == []


def test_a_folder_named_with_nothing_after_it_is_the_folder_itself(folder: Folder) -> None:
    folder.write_text("students/a/x.txt", "x")
    (folder / "students" / "").remove()
    assert not (folder / "students").exists()
    assert folder.exists()


def test_a_write_that_fails_leaves_nothing_under_its_name(folder: Folder) -> None:
    broken: Any = "no bytes"
    with pytest.raises(TypeError):
        folder.write_bytes("a.bin", broken)
    assert not folder.exists("a.bin")
    assert folder.names() == []


def test_a_write_that_fails_keeps_what_was_there(folder: Folder) -> None:
    folder.write_json("a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("a.json", float("nan"))
    assert folder.read_json("a.json") == 1


def test_temporary_files_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123").write_text("half")
    (tmp_path / ".tmp-456.parquet").write_text("half")
    (tmp_path / "whole.parquet").write_text("x")
    assert Folder(str(tmp_path)).names() == ["whole.parquet"]
    assert Folder(str(tmp_path)).names(".parquet") == ["whole.parquet"]


def test_shards_come_back_in_order_with_the_pool_in_their_schema(folder: Folder) -> None:
    schema = rewards_schema(("b", "a"))
    for index in (1, 0):
        row = {"prompt_id": str(index), "learnability": [-1.0, None], "quality": [0.0, 1.0]}
        table = pa.Table.from_pylist([row | {"rewards": [None, 0.5]}], schema=schema)
        folder.write_table(shard_name(index), table)
    folder.write_text("note.txt", "no table")
    found = list(folder.tables())
    assert [name for name, _ in found] == [shard_name(0), shard_name(1)]
    assert [table["prompt_id"].to_pylist() for _, table in found] == [["0"], ["1"]]
    assert all(table.schema.equals(schema) for _, table in found)
    assert all(table.schema.metadata == schema.metadata for _, table in found)
    assert folder.num_rows(shard_name(0)) == 1
    assert folder.read_table(shard_name(0), ["prompt_id"]).column_names == ["prompt_id"]


def test_a_pickled_folder_still_opens(folder: Folder) -> None:
    folder.write_text("a.txt", "x")
    assert pickle.loads(pickle.dumps(folder)) == folder
    assert pickle.loads(pickle.dumps(folder)).read_text("a.txt") == "x"


def test_a_local_folder_is_uploaded_in_place_of_what_was_there(
    folder: Folder, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "new.txt").write_text("new")
    (folder / "model").write_text("old.txt", "old")
    (folder / "model").upload(source)
    assert (folder / "model").names() == ["sub"]
    got = (folder / "model").download(tmp_path / "copy")
    assert (got / "sub" / "new.txt").read_text() == "new"


def test_a_relative_folder_becomes_absolute_and_a_remote_one_stays() -> None:
    assert Folder.absolute("runs/x").address == str(Path.cwd() / "runs/x")
    assert Folder.absolute("s3://bucket/x").address == "s3://bucket/x"


def test_a_remote_folder_has_no_local_path() -> None:
    with pytest.raises(ConfigError, match="not a local folder"):
        _ = Folder("memory://x").local_path


def test_a_place_that_cannot_be_written_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="Set `run` to a writable place"):
        Folder(str(tmp_path / "file" / "run")).write_text("a.txt", "x")


def test_a_folder_in_place_of_a_table_is_a_damaged_table(tmp_path: Path) -> None:
    (tmp_path / shard_name(0)).mkdir()
    with pytest.raises(DamagedError, match="cannot be read as a table"):
        Folder(str(tmp_path)).read_table(shard_name(0))


def flipped(data: bytes, first: int, last: int, rng: random.Random) -> bytes:
    """The same with one bit of a stretch flipped."""
    changed = bytearray(data)
    changed[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_no_flipped_bit_gives_other_words_or_a_bare_error(folder: Folder) -> None:
    words = {"id": [f"id-{n}" for n in range(300)], "text": [f"word {n} " * 9 for n in range(300)]}
    table, rng = pa.table(words), random.Random(0)
    folder.write_table("t.parquet", table)
    data = folder.read_bytes("t.parquet")
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    ways: list[Callable[[], pa.Table]] = [
        lambda: folder.read_table("t.parquet"),
        lambda: folder.read_rows("t.parquet", ["id", "text"], {"id": words["id"]}),
        lambda: (folder.require_whole("t.parquet"), table)[1],
    ]
    told: list[str] = []
    for read in ways * 20:
        folder.write_bytes("t.parquet", flipped(data, 4, footer, rng))
        assert folder.num_rows("t.parquet") == 300
        try:
            assert read() == table
        except DamagedError as error:
            told.append(str(error))
    assert len(told) > len(ways) * 10  # others hit bytes that mean nothing
    assert all("t.parquet cannot be read as a table: " in one for one in told)
    for _ in range(60):
        folder.write_bytes("t.parquet", flipped(data, footer, len(data), rng))
        with suppress(DamagedError):
            folder.num_rows("t.parquet")
