"""A full disk: what is written is whole or not there, nothing is left over, and it is one error."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.response_store import Store
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage import atomic_files
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip(f"no right to mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, keep: int = 0) -> Path:
    """Write until nothing fits, then give some bytes back."""
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - keep)
    return filler


def outcome(act: Callable[[], Any]) -> str:
    """What is said of an act that cannot be carried out."""
    try:
        act()
    except ConfigError as error:
        return str(error)
    return ""


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_a_file_that_does_not_fit_leaves_what_was_there(small_disk: Path) -> None:
    folder = Folder(str(small_disk / "x"))
    folder.write_text("a.txt", "first")
    fill(small_disk)
    for act in (
        lambda: folder.write_bytes("a.txt", bytes(9000)),
        lambda: folder.create_bytes("b.txt", bytes(9000)),
    ):
        with pytest.raises(ConfigError, match=r"The disk of .*/x is full .*Make room there"):
            act()
    assert folder.read_text("a.txt") == "first"
    assert left(small_disk) == ["a.txt", "filler"]


def test_a_run_on_a_full_disk_ends_at_once_with_one_error_and_goes_on_later(
    small_disk: Path, make_recipe: Make, quiet: Console
) -> None:
    recipe = make_recipe({"run": str(small_disk / "run")})
    for keep in (0, 4096, 8192, 16384, 32768):
        filler = fill(small_disk, keep)
        started = time.monotonic()
        said = outcome(lambda: run_recipe(recipe, quiet, until="prompts"))
        assert said.count("is full") == (1 if said else 0)
        assert keep or said
        assert time.monotonic() - started < 60
        assert len(left(small_disk / "run")) < 12
        assert not [name for name in left(small_disk) if name.startswith(atomic_files.PREFIX)]
        filler.unlink()
    run = run_recipe(recipe, quiet, until="prompts")
    assert sum(table.num_rows for _, table in run.prompts.tables()) == 24


def test_nobody_is_asked_for_what_cannot_be_filed(
    small_disk: Path,
    make_recipe: Make,
    carry_out: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make_recipe({"responses.store": str(small_disk / "store")})
    run = carry_out(recipe, until="prompts")
    (small_disk / "store").mkdir()
    filler, shards, asked = fill(small_disk, 4096), shards_of(run, "parallel"), []
    generate = ScriptedEngine.generate

    def counted(self: ScriptedEngine, requests: Any) -> Any:
        asked.extend(requests)
        return generate(self, requests)

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    with pytest.raises(ConfigError, match=r"The disk of .*store.* is full"):
        Collect(recipe)({"shard": shards[0]})
    assert asked == []
    filler.unlink()
    assert Collect(recipe)({"shard": shards[0]}).rows == 15
    assert len(asked) == 15


def test_a_full_disk_by_quota_or_limit_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path / "x"))
    folder.write_text("a.txt", "first")
    for number in atomic_files.FULL:

        def full(*_: Any, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            for act in (
                lambda: folder.write_text("a.txt", "second"),
                lambda: folder.create_bytes("b.txt", b"second"),
            ):
                with pytest.raises(ConfigError, match="is full"):
                    act()
        assert folder.read_text("a.txt") == "first"
        assert left(tmp_path) == ["a.txt"]


def test_a_place_that_may_only_be_read_is_one_error(
    small_disk: Path, make_recipe: Make, quiet: Console
) -> None:
    recipe = make_recipe({"run": str(small_disk / "run")})
    run_recipe(recipe, quiet, until="prompts")
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    for step in (None, "prompts"):
        with pytest.raises(ConfigError, match=r"Read-only file system.*Set `run` to a writable"):
            run_recipe(recipe, quiet, start=step, until="prompts")


LIMITED = """
import resource, sys
from persyn_ray.storage.folder import Folder
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = Folder(sys.argv[1])
folder.write_bytes("small", bytes(10_000))
folder.write_bytes("large", bytes(50_000))
"""


def test_a_process_that_may_write_no_more_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True
    )
    assert "is full (File too large)" in done.stderr
    assert left(tmp_path) == ["small"]


def test_a_file_system_without_links_makes_a_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    folder, filled = Folder(str(tmp_path)), []
    assert folder.create_bytes("a", b"first")
    assert not folder.create_bytes("a", b"second")
    assert folder.read_text("a") == "first"
    fsync = os.fsync

    def full_at_the_second(handle: int) -> None:
        filled.append(handle)
        if len(filled) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(ConfigError, match="is full"):
        folder.create_bytes("b", b"third")
    assert left(tmp_path) == ["a"]


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        done.append("file" if name.startswith(atomic_files.PREFIX) else f"folder {name}")
        fsync(handle)

    def renamed(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    Folder(str(tmp_path / "made" / "x")).write_text("a.txt", "x")
    assert done == ["folder made", f"folder {tmp_path.name}", "file", "rename", "folder x"]


WRITING = """
import sys
import pyarrow as pa
from persyn_ray.storage.folder import Folder
folder, number = Folder(sys.argv[1]), 0
while True:
    number += 1
    folder.write_table("shard.parquet", pa.table({"n": [number] * 50_000}))
    folder.write_json("a.json", [number] * 20_000)
    print(number, flush=True)
"""


def test_kill_9_leaves_the_last_or_the_one_before_whole(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for seed in range(6):
        command = [sys.executable, "-c", WRITING, folder.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.013 * seed)
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        told = int((rest.split() or ["1"])[-1])
        assert set(folder.read_table("shard.parquet")["n"].to_pylist()) <= {told, told + 1}
        assert folder.read_json("a.json")[0] in (told, told + 1)
        atomic_files.remove_abandoned(folder.address)
        assert left(tmp_path) == ["a.json", "shard.parquet"]


def test_a_store_that_fills_up_keeps_what_it_has(
    small_disk: Path, make_recipe: Make, carry_out: Callable[..., Any]
) -> None:
    recipe = make_recipe({"responses.store": str(small_disk / "store")})
    run = carry_out(recipe, until="prompts")
    store, shard = Store(run, recipe.teachers[0]), shards_of(run, "parallel")[0]
    filed = 0
    said = ""
    while not said:
        row = {
            "prompt_id": f"{filed}",
            "teacher": "a",
            "response": os.urandom(20_000).hex(),
            "finish_reason": "stop",
            "num_prompt_tokens": 1,
            "num_tokens": 1,
        }
        said = outcome(partial(store.add, shard, pa.Table.from_pylist([row], schema=RESPONSES)))
        filed += not said
    assert "is full" in said
    assert filed > 5
    found = existing(run_of(recipe).responses(recipe.teachers[0]), shard, RESPONSES)
    assert found["prompt_id"].to_pylist() == [str(number) for number in range(filed)]
    assert not [name for name in left(small_disk) if name.startswith(atomic_files.PREFIX)]
    assert shutil.disk_usage(small_disk).free > 0
