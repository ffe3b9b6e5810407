"""Hostile programs against unit tests: does every one end, does any get out, is any lost?

    python benchmarks/programs.py [--minutes 8]   # 10,000 programs; goes on where it was stopped
    python benchmarks/programs.py --quick         # 300, nothing written

Programs are drawn from tests/checks/hostile_programs.py: they write, fork, signal, connect, loop,
sleep, take memory, and leave early. Every tenth is right and has to pass. Hung is a program that
was not done long after its limits; escaped, any file, process or memory that stays; lost, any
without a verdict, misjudged, any with the wrong one. The result says how many were run so far; what
is known of them is kept in runs/programs.json.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from publishing import ROOT, publish

from persyn_ray.checks.code.programs import WALL_TIMES, Programs
from persyn_ray.checks.verifier import Verdict

NUM, QUICK = 10_000, 300
BATCH = 100  # programs between two notes of what is known
TIMEOUT_SECONDS, MEMORY_GIB, PROCESSES = 0.5, 0.5, 2
HANGS_AFTER = WALL_TIMES * TIMEOUT_SECONDS + 10
SEED = 0
PLACES = (Path("/tmp"), Path("/dev/shm"))  # of files, and of shared memory
PRECIOUS = Path("/etc/hostname")
KEPT = ROOT / "runs" / "programs.json"
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"
TESTS = "assert add(1, 2) == 3"


@dataclass
class Tally:
    """What became of the programs so far."""

    done: int = 0
    hangs: int = 0
    escapes: int = 0
    lost: int = 0
    misjudged: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def kept(cls, path: Path) -> "Tally":
        """What earlier calls have found, or nothing yet."""
        if not path.exists():
            return cls()
        facts = json.loads(path.read_text())
        return cls(**facts | {"outcomes": Counter(facts["outcomes"])})

    def keep(self, path: Path) -> None:
        """Write it down for the next call."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(vars(self)))
        path.with_suffix(".part").replace(path)

    def add(self, response: str, verdict: Verdict, seconds: float) -> None:
        """Count a program."""
        self.outcomes[str(verdict.outcome)] += 1
        self.misjudged += verdict.quality != float(response == RIGHT)
        self.hangs += seconds > HANGS_AFTER
        self.slowest = max(self.slowest, seconds)


def hostile() -> Any:
    """The programs of the tests, which are no package."""
    spec = spec_from_file_location("hostile", ROOT / "tests" / "checks" / "hostile_programs.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def responses(num: int) -> Iterator[str]:
    """The same programs in every call, so that a call may go on where another was stopped."""
    draw, make = random.Random(SEED), hostile().hostile_program
    for number in range(num):
        yield RIGHT if number % 10 == 0 else f"```python\n{make(draw)}\n```\n"


def main() -> None:
    """Run them all, a hundred at a time, and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    arguments = parser.parse_args()
    num = QUICK if arguments.quick else NUM
    tally = Tally() if arguments.quick else Tally.kept(KEPT)
    ends = time.monotonic() + 60 * arguments.minutes
    todo = islice(responses(num), tally.done, None)
    with Programs(TIMEOUT_SECONDS, MEMORY_GIB, PROCESSES) as programs:
        while (batch := list(islice(todo, BATCH))) and time.monotonic() < ends:
            _count(programs, batch, tally)
            if not arguments.quick:
                tally.keep(KEPT)
            print(json.dumps(vars(tally)), file=sys.stderr, flush=True)
    left = len(psutil.Process().children(recursive=True))
    tally.escapes += left
    if tally.done < num:
        print(f"{tally.done:,} of {num:,} done; the same command goes on", file=sys.stderr)
    if not arguments.quick:
        tally.keep(KEPT)
    publish(_result(tally, num), arguments.quick)


def _count(programs: Programs, batch: list[str], tally: Tally) -> None:
    """Check some programs, each timed by itself, and see what they have left behind."""
    written, began = _left_behind(), time.perf_counter()

    def timed(response: str) -> tuple[list[tuple[Verdict, str | None]], float]:
        started = time.perf_counter()
        return programs.check([(response, TESTS)]), time.perf_counter() - started

    with ThreadPoolExecutor(PROCESSES) as threads:
        for response, (found, seconds) in zip(batch, threads.map(timed, batch), strict=True):
            tally.lost += not found
            for verdict, _ in found:
                tally.add(response, verdict, seconds)
    tally.escapes += len(_left_behind() - written)
    tally.done += len(batch)
    tally.seconds += time.perf_counter() - began


def _result(tally: Tally, num: int) -> dict[str, Any]:
    return {
        "name": "programs",
        "num_programs": tally.done,
        "num_planned": num,
        "hangs": tally.hangs,
        "escapes": tally.escapes,
        "lost": tally.lost,
        "misjudged": tally.misjudged,
        "goals": {"hangs": 0, "escapes": 0, "lost": 0},
        "outcomes": dict(tally.outcomes),
        "slowest_program_seconds": round(tally.slowest, 1),
        "programs_per_second": round(tally.done / tally.seconds, 1),
        "config": {
            "timeout_seconds": TIMEOUT_SECONDS,
            "memory_gib": MEMORY_GIB,
            "processes": PROCESSES,
            "hangs_after_seconds": HANGS_AFTER,
            "seed": SEED,
        },
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "seconds": round(tally.seconds, 1),
    }


def _left_behind() -> set[object]:
    """What programs leave where they get out, by the names that they give it, and how the file is
    that they try to change; other processes of the machine use other names."""
    left: set[object] = {one for place in PLACES for one in place.glob("escaped-*")}
    if not PRECIOUS.exists():
        return {*left, "no file"}
    now = PRECIOUS.stat()
    return {*left, (now.st_ino, now.st_mode, now.st_nlink, now.st_size, now.st_mtime_ns)}


if __name__ == "__main__":
    main()
