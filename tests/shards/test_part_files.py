"""Part files: rows of several shards in one file, found again by shard, also while parts change."""

from pathlib import Path

import pyarrow as pa
import pytest

from persyn_ray.shards.part_files import (
    all_rows,
    existing,
    ids_of_shard,
    part_name,
    parts_in,
    shards_in,
)
from persyn_ray.shards.part_writer import add_part
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.schemas import RESPONSES

ONE, TWO, THREE = (f"shard-{number:06d}.parquet" for number in (1, 2, 3))


def rows(*names: str, text: str | None = "yes") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": name,
                "teacher": "a",
                "response": text,
                "finish_reason": "error" if text is None else "stop",
                "num_prompt_tokens": 1,
                "num_tokens": 1,
            }
            for name in names
        ],
        schema=RESPONSES,
    )


def ids(folder: Folder, shard: str) -> list[str]:
    return existing(folder, shard, RESPONSES)["prompt_id"].to_pylist()


def test_a_part_of_several_shards_is_read_by_shard(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    add_part(folder, {THREE: rows("e"), ONE: rows("a", "b")})
    add_part(folder, {TWO: rows("c", "d")})
    assert folder.names() == [parts_in(folder, TWO)[1].name, parts_in(folder, ONE)[0].name]
    assert (ids(folder, ONE), ids(folder, TWO), ids(folder, THREE)) == (
        ["a", "b"],
        ["c", "d"],
        ["e"],
    )
    assert existing(folder, ONE, RESPONSES).schema.equals(RESPONSES)
    assert shards_in(folder) == {ONE, TWO, THREE}
    assert sorted(all_rows(folder, RESPONSES)["prompt_id"].to_pylist()) == list("abcde")


def test_only_row_groups_that_may_hold_a_shard_are_read(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    table = pa.table(
        {"prompt_id": [f"p{i}" for i in range(40)], "shard": pa.array([1] * 20 + [2] * 20)}
    )
    folder.write_table("t.parquet", table, 10)
    whole = (tmp_path / "t.parquet").read_bytes()
    first = folder.read_rows("t.parquet", ["prompt_id", "shard"], {"shard": [1]})
    assert first["prompt_id"].to_pylist() == [f"p{i}" for i in range(20)]
    # Row groups of shard 2 may be unreadable: they are not touched.
    at = folder.parquet_metadata("t.parquet").row_group(2).column(0).data_page_offset
    end = folder.parquet_metadata("t.parquet").row_group(3).column(1).data_page_offset
    (tmp_path / "t.parquet").write_bytes(whole[:at] + b"\xff" * (end - at) + whole[end:])
    again = folder.read_rows("t.parquet", ["prompt_id", "shard"], {"shard": [1]})
    assert again == first


def test_the_first_part_by_number_counts_whatever_shards_it_holds(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    add_part(folder, {ONE: rows("a", text="first"), TWO: rows("b")}, "z")
    add_part(folder, {ONE: rows("a", "c", text="second")}, "a")
    texts = existing(folder, ONE, RESPONSES, ["prompt_id", "response"]).to_pylist()
    assert texts == [
        {"prompt_id": "a", "response": "first"},
        {"prompt_id": "c", "response": "second"},
    ]
    assert sorted(ids_of_shard(folder, ONE)) == ["a", "a", "c"]


def test_a_part_that_has_gone_meanwhile_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))
    add_part(folder, {ONE: rows("a")})
    (old,) = folder.names()
    names = Folder.names
    seen: list[int] = []

    def stale(self: Folder, suffix: str = "", prefix: str = "") -> list[str]:
        found = names(self, suffix, prefix)
        if not seen:  # listed, and then put together with others before it is read
            seen.append(1)
            add_part(folder, {ONE: rows("a"), TWO: rows("b")})
            folder.remove(old)
        return found

    monkeypatch.setattr(Folder, "names", stale)
    assert ids(folder, ONE) == ["a"]


@pytest.mark.parametrize(("first", "last"), [(3, 3), (3, 12), (0, 1_000_000)])
def test_names_tell_which_shards_a_part_holds(tmp_path: Path, first: int, last: int) -> None:
    folder = Folder(str(tmp_path))
    folder.write_table(part_name([first, last], 7, "w"), rows("a"))
    (part,) = parts_in(folder)
    assert (part.first, part.last, part.number, part.writer) == (first, last, 7, "w")
    assert part.has_many_shards == (first != last)
    assert parts_in(folder, f"shard-{last + 1:06d}.parquet") == []


def test_a_reader_ends_however_many_parts_go_while_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = Folder(str(tmp_path)), Folder.read_table
    for number in range(150):
        add_part(folder, {ONE: rows(f"p{number:03d}")})
    old = folder.names()
    add_part(folder, {ONE: rows(*(f"p{number:03d}" for number in range(150)))})

    def slowly(self: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
        if old:  # with every part that is read another one goes
            folder.remove(old.pop())
        return read(self, name, columns)

    monkeypatch.setattr(Folder, "read_table", slowly)
    assert sorted(ids(folder, ONE)) == [f"p{number:03d}" for number in range(150)]
    assert len(set(ids_of_shard(folder, ONE))) == 150
