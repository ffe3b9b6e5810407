"""The benchmark of hostile programs goes on where it was stopped; what it counts, by stand-ins."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.checks.verifier import CORRECT, WRONG, Verdict

ROOT = Path(__file__).parents[2]
NUM = 40


class StandIn:
    """Takes the right program for right and all others for wrong, and remembers them."""

    seen: list[str]

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Verdict, str | None]]:
        type(self).seen += [response for response, _ in pairs]
        return [(CORRECT if "return a + b" in one else WRONG, None) for one, _ in pairs]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script with few programs, its notes and its result in a folder of the test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import programs

    StandIn.seen = []
    monkeypatch.setattr(programs, "Programs", StandIn)
    monkeypatch.setattr(programs, "KEPT", tmp_path / "runs" / "programs.json")
    monkeypatch.setattr(programs, "NUM", NUM)
    monkeypatch.setattr(programs, "BATCH", 10)
    monkeypatch.setattr(programs, "PROCESSES", 1)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    monkeypatch.setattr("publishing.ROOT", tmp_path)
    return programs


def test_a_call_goes_on_behind_the_programs_of_the_one_before(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["programs.py", "--minutes", "1"])
    clock = iter([0.0, 0.0, 0.0, 61.0])  # the end is set, two batches begin, a third would be late
    with monkeypatch.context() as timed:
        timed.setattr(benchmark.time, "monotonic", lambda: next(clock))
        benchmark.main()
    result = tmp_path / "benchmarks" / "results" / "programs.json"
    half = json.loads(result.read_text())
    assert (half["num_programs"], half["num_planned"]) == (20, NUM)
    benchmark.main()
    assert StandIn.seen == list(benchmark.responses(NUM))
    told = json.loads(result.read_text())
    assert told["num_programs"] == sum(told["outcomes"].values()) == NUM
    assert (told["hangs"], told["lost"], told["misjudged"]) == (0, 0, 0)


def test_what_is_slow_lost_or_judged_wrongly_is_counted(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = islice(benchmark.responses(NUM), 2)
    tally = benchmark.Tally()
    tally.add(right, WRONG, 0.1)
    tally.add(wrong, WRONG, benchmark.HANGS_AFTER + 1)
    assert (tally.misjudged, tally.hangs) == (1, 1)
    monkeypatch.setattr(StandIn, "check", lambda *_: [])
    benchmark._count(StandIn(), [wrong], tally)
    assert (tally.lost, tally.done) == (1, 1)


def test_what_programs_leave_behind_is_told_from_what_others_do(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files, memory, precious = tmp_path / "tmp", tmp_path / "shm", tmp_path / "hostname"
    files.mkdir()
    memory.mkdir()
    precious.write_text("here")
    monkeypatch.setattr(benchmark, "PLACES", (files, memory))
    monkeypatch.setattr(benchmark, "PRECIOUS", precious)

    def escapes(program: Callable[[], object]) -> int:
        tally = benchmark.Tally()
        monkeypatch.setattr(StandIn, "check", lambda *_: [program()][:0])
        benchmark._count(StandIn(), ["a program"], tally)
        return tally.escapes

    assert escapes((files / "escaped-1").touch) == 1
    assert escapes((files / "escaped-2").mkdir) == 1
    assert escapes((memory / "escaped-1").touch) == 1
    assert escapes((memory / "psm_0b206cde").touch) == 0  # an engine's beside the benchmark
    assert escapes(lambda: precious.write_text("changed")) == 1
    assert escapes(lambda: precious.chmod(0)) == 1
    assert escapes(precious.unlink) == 1
    assert escapes(lambda: None) == 0


def test_every_program_that_leaves_something_names_it_so(benchmark: Any) -> None:
    names = r"open\(.*, 'w'\)|rename|mkdir|link|SharedMemory\("
    leaving = [one for one in benchmark.responses(2000) if re.search(names, one)]
    assert leaving
    assert all("/tmp/escaped-" in one for one in leaving)
