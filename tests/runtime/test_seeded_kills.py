"""Counting of `benchmarks/streaming.py --part kills`: rows lost, doubled, in flight, asked again.

An engine's kill is tried here without Ray; the kills on a cluster of raylets are the benchmark's.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from persyn_ray.errors import EngineDead
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.layout import run_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from streaming_parts.killing import count  # noqa: E402
from streaming_parts.killing.engine import SimulatedCollect, Simulation  # noqa: E402
from streaming_parts.killing.made_run import made_run  # noqa: E402

A, B, C = (("teacher-a", f"prompt-{number}") for number in range(3))
PROGRAM = BENCHMARKS / "streaming_parts" / "killing" / "engine_process.py"


def noted(folder: Path, *lines: str, engine: int = 7) -> None:
    with (folder / f"teacher-a.1.2.{engine}.jsonl").open("a") as file:
        file.writelines(lines)


def line(what: str, prompt_id: str, at: float) -> str:
    return f'{{"what": "{what}", "id": "{prompt_id}", "at": {at}}}\n'


@pytest.fixture
def log(tmp_path: Path) -> list[count.Noted]:
    """Engine 7 began A and B and ended A; engine 8 began B, C, and C again."""
    ended = line("end", A[1], 3)
    noted(tmp_path, line("begin", A[1], 1), line("begin", B[1], 2), ended, '{"what": "en')
    noted(tmp_path, *(line("begin", row[1], 4) for row in (B, C, C)), engine=8)
    return count.noted(tmp_path)


def test_a_line_that_is_being_written_does_not_count(
    log: list[count.Noted], tmp_path: Path
) -> None:
    assert [(one.row, one.is_begin, one.engine) for one in log[:3]] == [
        (A, True, 7),
        (B, True, 7),
        (A, False, 7),
    ]
    assert len(log) == 6
    assert count.engines(tmp_path)[0].actor == 2


def test_in_flight_is_what_ran_and_what_was_not_written_yet(log: list[count.Noted]) -> None:
    assert count.in_flight(log, [7], set()) == count.Flight(frozenset({B}), frozenset({A}))
    assert count.in_flight(log, [7], {A}).rows == {B}


def test_rework_that_no_kill_explains_is_told(log: list[count.Noted]) -> None:
    found = count.rework(log, [count.in_flight(log, [7], {A})])
    assert found["rework"] == 2  # B once more after the kill, C for no reason
    assert found["rework_over_in_flight"] == 1
    assert found["in_flight"] == 1


def test_the_engine_notes_what_it_begins_and_ends_with_its_actor(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(PROGRAM), str(tmp_path / "teacher-a.1.2"), "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"0 prompt-0 0.05\n1 prompt-1 60\n2 prompt-2 60\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"0\n"
        while len(log := count.noted(tmp_path)) < 3:
            assert process.poll() is None
    assert [(one.row, one.is_begin) for one in log] == [(A, True), (A, False), (B, True)]
    assert process.returncode == 0


def test_an_engine_that_is_killed_costs_what_it_had_in_hand(tmp_path: Path) -> None:
    """Without Ray: the work of one actor, its engine killed in the middle, and another after it."""
    recipe, wanted = made_run(tmp_path, "collect", 60, seed=0)
    (unit,) = units_of(shards_of(run_of(recipe), "parallel"))
    quick = Simulation(str(tmp_path / "logs"), driver=1, slots=4, token_seconds=0.002)
    first = SimulatedCollect(quick, recipe, None, ("teacher-a",))
    threading.Thread(target=killed_amidst, args=(tmp_path / "logs",)).start()
    with pytest.raises(EngineDead, match="teacher-a has lost its process"):
        first(unit)
    (dead,) = count.engines(tmp_path / "logs")
    on_disk = count.stored(recipe, "parallel")
    flight = count.in_flight(count.noted(tmp_path / "logs"), [dead.pid], on_disk)
    assert 0 < len(on_disk) < 60
    assert 0 < len(flight.running) <= 4
    second = SimulatedCollect(quick, recipe, None)
    assert second(unit).rows == 120 - len(on_disk)
    second.close()
    found = count.rework(count.noted(tmp_path / "logs"), [flight])
    assert found["rework_over_in_flight"] == 0
    assert found["rework"] == len(flight.rows)
    assert set(count.responses(recipe, "parallel", wanted).values()) == {0, 120}
    assert count.scores(recipe, "parallel") == {"scores_lost": 240, "scores_duplicated": 0}


def killed_amidst(logs: Path) -> None:
    """Kill the engine that notes something, once it has ended some rows."""
    while sum(not one.is_begin for one in count.noted(logs)) < 10:
        time.sleep(0.01)
    (engine,) = count.engines(logs)
    os.kill(engine.pid, signal.SIGKILL)


def test_kills_are_of_all_kinds_as_often_over_sittings() -> None:
    from streaming_parts.killing.sitting import kinds_of

    made = [kind for seed in range(4) for kind in kinds_of(10, seed)]
    assert sorted(made) == sorted(["driver", "actor", "engine", "raylet"] * 10)
