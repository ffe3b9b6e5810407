"""Two processes on one run: one writes, the other is told."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import AttemptError, ConfigError
from persyn_ray.storage import run_lock
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.run_lock import Holder, attempt_at, holder_of, last_holder

HOLDING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
from rich.console import Console
from persyn_ray.storage import run_lock
from persyn_ray.cli.main import guarded
from persyn_ray.storage.folder import Folder

def hold():
    run_lock.WATCH_SECONDS, run_lock.END_SECONDS = 0.2, {end_seconds}
    with run_lock.attempt_at(Folder(sys.argv[1]), Console(quiet=True)):
        print("held", flush=True)
        {work}

sys.exit(guarded(hold))
"""
SLEEPS = "time.sleep(60)"
IS_DEAF = """
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "run" / "attempts"))


@contextmanager
def another(
    folder: Folder, work: str = SLEEPS, end_seconds: float = 60.0
) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the run, and has so long to end once it is overtaken."""
    script = HOLDING.format(work=work, end_seconds=end_seconds)
    command = [sys.executable, "-c", script, folder.address]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def elsewhere(folder: Folder, number: int) -> None:
    """As if another machine had taken the run."""
    holder = replace(Holder.here(), host="another-machine")
    folder.write_json(f"{number:06d}.json", asdict(holder))


def test_a_run_is_free_again_when_its_holder_has_ended(folder: Folder, quiet: Console) -> None:
    with attempt_at(folder, quiet) as first:
        assert holder_of(folder) == first.holder
        first.require_newest()
    assert holder_of(folder) is None
    with pytest.raises(ValueError, match="of the work"), attempt_at(folder, quiet) as second:
        raise ValueError("of the work")
    with attempt_at(folder, quiet) as third:
        assert [one.number for one in (first, second, third)] == [1, 2, 3]


def test_an_error_that_ends_an_attempt_is_kept_without_secrets(
    folder: Folder, quiet: Console
) -> None:
    for error, told in (
        (ConfigError("No route to https://me:hunter2secret@host/v1."), "No route to https://"),
        (ValueError("as nobody foresaw"), "ValueError: as nobody foresaw"),
    ):
        with pytest.raises(type(error)), attempt_at(folder, quiet):
            raise error
        last = last_holder(folder)
        assert last is not None
        assert last.ended is not None
        assert str(last.error).startswith(told)
        assert "hunter2secret" not in str(last.error)
    with pytest.raises(KeyboardInterrupt), attempt_at(folder, quiet):
        raise KeyboardInterrupt
    last = last_holder(folder)
    assert last is not None
    assert last.error is None  # stopped on purpose
    assert holder_of(folder) is None


def test_a_run_that_is_worked_on_here_is_refused_and_free_after_kill_9(
    folder: Folder, quiet: Console
) -> None:
    with another(folder) as process:
        with pytest.raises(AttemptError, match=f"process {process.pid} of .*, since 20"):
            attempt_at(folder, quiet).__enter__()
        assert folder.names() == ["000001.json"]
        os.kill(process.pid, signal.SIGKILL)
        while holder_of(folder) is not None:  # a zombie counts as dead
            time.sleep(0.01)
        with attempt_at(folder, quiet) as attempt:
            assert attempt.number == 2


def test_a_pid_that_went_to_another_process_holds_nothing(folder: Folder) -> None:
    holder = replace(Holder.here(), process_started=0.0)
    folder.write_json("000001.json", asdict(holder))
    assert holder_of(folder) is None


def test_a_run_from_another_machine_is_taken_after_a_while(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(folder, 7)
    waits: list[float] = []
    monkeypatch.setattr(run_lock.time, "sleep", waits.append)
    console = Console(record=True, width=200)
    with attempt_at(folder, console) as attempt:
        assert attempt.number == 8
    assert waits == [run_lock.WATCH_SECONDS + run_lock.END_SECONDS + run_lock.CACHE_SECONDS]
    assert "Attempt 7 (process" in console.export_text()


def test_whoever_is_overtaken_is_told_by_whom(folder: Folder, quiet: Console) -> None:
    with attempt_at(folder, quiet) as attempt:
        elsewhere(folder, 2)
        with pytest.raises(AttemptError, match=r"Attempt 2 .*of another-machine.*was attempt 1"):
            attempt.require_newest()


def test_the_work_of_whoever_is_overtaken_is_interrupted(folder: Folder) -> None:
    with another(folder) as process:
        elsewhere(folder, 2)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "AttemptError: Attempt 2" in said
    assert "another-machine" in said


def test_work_that_does_not_heed_the_interruption_is_cut_off(folder: Folder) -> None:
    with another(folder, IS_DEAF, end_seconds=0.5) as process:
        elsewhere(folder, 2)
        assert process.wait(timeout=120) == 1


def test_of_many_at_once_one_gets_the_number(folder: Folder) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return folder.create_bytes("000001.json", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))
    assert sum(made) == 1
    assert folder.read_text("000001.json") == str(made.index(True))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything waits for a fraction of its time."""
    for name in ("WATCH_SECONDS", "END_SECONDS", "CACHE_SECONDS", "FILL_SECONDS"):
        monkeypatch.setattr(run_lock, name, 0.3)


@pytest.mark.parametrize("content", [b"", b'{"host": "th', b"null", b"[]"])
def test_a_number_whose_writer_died_at_once_is_fenced_and_passed_over(
    folder: Folder, content: bytes, hasty: None
) -> None:
    assert folder.create_bytes("000001.json", content)
    console = Console(record=True, width=200)
    with attempt_at(folder, console) as attempt:
        assert attempt.number == 2
    assert "Attempt 1 (process 0 of an unknown machine" in console.export_text()


def test_a_file_that_is_filled_late_names_a_holder_that_is_respected(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "FILL_SECONDS", 20.0)
    assert folder.create_bytes("000001.json", b"")
    content = json.dumps(asdict(Holder.here())).encode()
    late = threading.Timer(0.1, folder.write_bytes, ("000001.json", content))
    late.start()
    with pytest.raises(AttemptError, match="Another process works on this run"):
        attempt_at(folder, quiet).__enter__()
    late.join()
    assert folder.names() == ["000001.json"]


def in_another_container(number: int, folder: Folder, **changes: Any) -> Holder:
    """As if a process with our host name, whom we cannot see, had taken the run."""
    gone = subprocess.Popen([sys.executable, "-c", ""])  # nobody here has its number
    gone.wait()
    holder = replace(Holder.here(), pid=gone.pid, processes="f" * 16, **changes)
    folder.write_json(f"{number:06d}.json", asdict(holder))
    return holder


def test_a_holder_in_another_container_that_leaves_signs_is_not_overtaken(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 10.0)
    holder = in_another_container(1, folder)
    assert holder.is_alive is None
    sign = asdict(replace(holder, seen="2026-01-01T00:00:10+00:00"))
    lives = threading.Timer(0.2, folder.write_json, ("000001.json", sign))
    lives.start()
    with pytest.raises(AttemptError, match=f"Another process works on this run .*{holder.pid}"):
        attempt_at(folder, quiet).__enter__()
    lives.join()
    assert folder.names() == ["000001.json"]


def test_a_holder_in_another_container_without_signs_is_dead(
    folder: Folder, quiet: Console, hasty: None
) -> None:
    in_another_container(1, folder)
    started = time.monotonic()
    with attempt_at(folder, quiet) as attempt:
        assert attempt.number == 2
    assert time.monotonic() - started >= 4 * 0.3  # two for a sign, two for its end


def test_one_after_a_restart_of_the_machine_is_only_waited_for(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_another_container(1, folder, boot="another start")
    waits: list[float] = []
    monkeypatch.setattr(run_lock.time, "sleep", waits.append)
    with attempt_at(folder, quiet) as attempt:
        assert attempt.number == 2
    assert len(waits) == 1


def test_a_holder_leaves_signs_and_its_end_stands_last(folder: Folder, hasty: None) -> None:
    with another(folder) as process:
        seen: set[str | None] = set()
        end = time.monotonic() + 120
        while len(seen) < 2 and time.monotonic() < end:
            seen.add(folder.read_json("000001.json")["seen"])
            time.sleep(0.05)
        assert len(seen) >= 2
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    assert folder.read_json("000001.json")["ended"] is not None


def separated(command: list[str]) -> list[str]:
    return ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command]


def can_separate() -> bool:
    try:
        return subprocess.run(separated(["true"]), capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_separate(), reason="no right to make a namespace of processes")
def test_two_containers_with_one_host_name_do_not_take_each_others_run(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 10.0)
    command = [sys.executable, "-c", HOLDING.format(work=SLEEPS, end_seconds=60.0), folder.address]
    process = subprocess.Popen(separated(command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        holder = holder_of(folder)
        assert holder is not None
        assert holder.is_alive is None
        with pytest.raises(AttemptError, match="Another process works on this run"):
            attempt_at(folder, quiet).__enter__()
        assert folder.names() == ["000001.json"]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_full_disk_is_one_error_and_no_attempt(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"The disk of .* is full \(No space left on device\)"):
        attempt_at(folder, quiet).__enter__()
    monkeypatch.undo()
    assert list(folder.local_path.iterdir()) == []


def test_a_listing_that_lags_behind_does_not_hold_anybody_up(
    folder: Folder, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attempt_at(folder, quiet):
        pass
    monkeypatch.setattr(Folder, "names", lambda self, *_, **__: [])
    with attempt_at(folder, quiet) as attempt:
        assert attempt.number == 2
