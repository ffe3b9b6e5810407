"""Compaction: the same rows for every reader before, while and after, in few files."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from persyn_ray.shards import compaction
from persyn_ray.shards.compaction import compact
from persyn_ray.shards.part_files import existing, parts_in
from persyn_ray.shards.part_writer import add_part
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.schemas import RESPONSES

from .test_part_files import rows

SHARDS = [f"shard-{number:06d}.parquet" for number in range(4)]


def filled(folder: Folder, seed: int, num_parts: int = 30) -> None:
    """Parts of one to three shards; prompts come twice and some first as failures."""
    draw = random.Random(seed)
    for number in range(num_parts):
        tables = {}
        for place in draw.sample(range(4), draw.randint(1, 3)):
            names = [f"{place}-{draw.randrange(60)}" for _ in range(draw.randint(1, 6))]
            text = None if draw.random() < 0.3 else f"part {number}"
            tables[SHARDS[place]] = rows(*dict.fromkeys(names), text=text)
        add_part(folder, tables)


def seen(folder: Folder) -> dict[str, dict[str, str | None]]:
    found = {}
    for shard in SHARDS:
        table = existing(folder, shard, RESPONSES)
        columns = (table[name].to_pylist() for name in ("prompt_id", "response"))
        found[shard] = dict(zip(*columns, strict=True))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_every_reader_sees_the_same_in_fewer_files(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOST_ROWS", 70)
    folder = Folder(str(tmp_path))
    filled(folder, seed)
    before, num_rows = seen(folder), sum(len(of) for of in seen(folder).values())
    assert compact(folder) == len(parts_in(folder)) <= num_rows / 35 + 2
    assert seen(folder) == before
    files = folder.names()
    compact(folder)
    assert len(folder.names()) <= len(files)
    assert seen(folder) == before


def test_what_is_written_afterwards_displaces_no_text(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    add_part(folder, {SHARDS[0]: rows("a", text="first")})
    add_part(folder, {SHARDS[1]: rows("b", text=None)})
    compact(folder)
    add_part(folder, {SHARDS[0]: rows("a", text="late"), SHARDS[1]: rows("b", text="late")})
    assert seen(folder)[SHARDS[0]] == {"a": "first"}
    assert seen(folder)[SHARDS[1]] == {"b": "late"}


@pytest.mark.parametrize("num_removed", [0, 1, 5])
def test_a_kill_while_old_parts_are_removed_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_removed: int
) -> None:
    folder = Folder(str(tmp_path))
    filled(folder, 3)
    before, remove, left = seen(folder), Folder.remove, [num_removed]

    def killed(self: Folder, name: str = "") -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        remove(self, name)

    monkeypatch.setattr(Folder, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(folder)
    monkeypatch.setattr(Folder, "remove", remove)
    assert seen(folder) == before
    assert compact(folder) == 1
    assert seen(folder) == before


def test_readers_miss_nothing_while_parts_are_put_together(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    filled(folder, 5, 60)
    before, missed, ended = seen(folder), [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            if seen(folder) != before:
                missed.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    compact(folder)
    ended.set()
    reader.join()
    assert not missed
    assert len(folder.names()) == 1


def test_two_at_once_lose_nothing_and_stand_in_nobodys_way(tmp_path: Path) -> None:
    """As two runs that share a store do, or a task and the one that Ray starts in its place."""
    folder = Folder(str(tmp_path))
    filled(folder, 7, 60)
    before = seen(folder)
    with ThreadPoolExecutor() as threads:
        for one in [threads.submit(compact, folder) for _ in range(4)]:
            one.result()
    assert seen(folder) == before
    assert compact(folder) == 1
    assert seen(folder) == before


def test_full_parts_and_damaged_ones_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOST_ROWS", 10)
    folder = Folder(str(tmp_path))
    add_part(folder, {SHARDS[0]: rows(*(f"p{number}" for number in range(10)))})
    (full,) = folder.names()
    (tmp_path / "shard-000001.0009-x.parquet").write_bytes(b"half of a ta")
    for number in range(4):
        add_part(folder, {SHARDS[2]: rows(f"q{number}")})
    assert compact(folder) == 3
    assert {full, "shard-000001.0009-x.parquet"} <= set(folder.names())
    assert len(seen(folder)[SHARDS[2]]) == 4
