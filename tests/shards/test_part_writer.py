"""Group commit: what is put before a flush is durable after it; whoever flushes, no row twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.shards import part_writer
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.part_writer import PartWriter
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.schemas import DEAD_LETTERS

SHARD = "shard-000004.parquet"


def row(name: str) -> dict[str, str]:
    return {"step": "collect", "prompt_id": name, "teacher": "a", "reason": "r", "detail": name}


def ids(folder: Folder) -> list[str]:
    return existing(folder, SHARD, DEAD_LETTERS)["prompt_id"].to_pylist()


def test_many_threads_find_their_rows_durable_after_their_flush(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    writer, together = PartWriter(folder, DEAD_LETTERS, seconds=60), threading.Barrier(8)

    def work(number: int) -> None:
        together.wait()
        for turn in range(5):
            name = f"{number}-{turn}"
            writer.put(SHARD, row(name))
            writer.flush()
            assert name in ids(folder)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    found = ids(folder)
    assert len(found) == len(set(found)) == 40
    assert len(folder.names()) <= 40


def test_rows_of_all_who_wait_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, add = Folder(str(tmp_path)), part_writer.add_part
    writer = PartWriter(folder, DEAD_LETTERS, seconds=60)
    first, all_wait = threading.Event(), threading.Event()

    def slowly(*args: Any) -> None:
        first.set()
        assert all_wait.wait(120)
        add(*args)

    monkeypatch.setattr(part_writer, "add_part", slowly)
    writer.put(SHARD, row("0"))
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(writer.flush)]
        assert first.wait(120)
        for number in range(1, 6):
            writer.put(SHARD, row(str(number)))
        waiting += [pool.submit(writer.flush) for _ in range(5)]
        all_wait.set()
        for one in waiting:
            one.result()
    assert sorted(ids(folder)) == list("012345")
    assert len(folder.names()) == 2


def test_what_nobody_waits_for_is_written_after_a_while(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    writer = PartWriter(folder, DEAD_LETTERS, seconds=0.05)
    writer.put(SHARD, row("a"))
    limit = time.monotonic() + 120
    while not ids(folder) and time.monotonic() < limit:
        time.sleep(0.02)
    assert ids(folder) == ["a"]
    writer.flush()
    assert len(folder.names()) == 1


def test_a_write_that_failed_in_time_is_told_to_the_next_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, tried = PartWriter(Folder(str(tmp_path)), DEAD_LETTERS, seconds=0.02), threading.Event()

    def full(*_: Any) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part_writer, "add_part", full)
    writer.put(SHARD, row("a"))
    assert tried.wait(120)
    time.sleep(0.2)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()


def test_nothing_put_writes_nothing(tmp_path: Path) -> None:
    PartWriter(Folder(str(tmp_path)), DEAD_LETTERS).flush()
    assert Folder(str(tmp_path)).names() == []
