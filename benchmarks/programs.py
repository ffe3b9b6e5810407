"""Hostile programs against unit tests: does every one end, does any get out, is any lost?

    python benchmarks/programs.py            # 10,000 programs; writes results/programs.json
    python benchmarks/programs.py --quick    # 300, nothing written

Programs are drawn from tests/checks/hostile_programs.py: they write, fork, signal, connect, loop,
sleep, take memory, and leave early. Every tenth is right and has to pass. Hung is a program that
was not done long after its limits; escaped, any file, process or memory that stays; lost, any
without a verdict, misjudged, any with the wrong one.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import psutil
from publishing import ROOT, publish

from persyn_ray.checks.code.programs import WALL_TIMES, Programs

NUM, QUICK = 10_000, 300
TIMEOUT_SECONDS, MEMORY_GIB, PROCESSES = 0.5, 0.5, 2
HANGS_AFTER = WALL_TIMES * TIMEOUT_SECONDS + 10
SEED = 0
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"
TESTS = "assert add(1, 2) == 3"


def hostile() -> Any:
    """The programs of the tests, which are no package."""
    spec = spec_from_file_location("hostile", ROOT / "tests" / "checks" / "hostile_programs.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run them all, a hundred at a time, and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    is_quick = parser.parse_args().quick
    num, draw, make = QUICK if is_quick else NUM, random.Random(SEED), hostile().hostile_program
    written, shared = _places(Path("/tmp"), "escaped-"), _places(Path("/dev/shm"))
    started, slowest, counts = time.perf_counter(), 0.0, Counter[str]()
    with Programs(TIMEOUT_SECONDS, MEMORY_GIB, PROCESSES) as programs:
        for first in range(0, num, 100):
            numbers = range(first, min(first + 100, num))
            responses = [
                RIGHT if n % 10 == 0 else f"```python\n{make(draw)}\n```\n" for n in numbers
            ]
            began = time.perf_counter()
            found = programs.check([(response, TESTS) for response in responses])
            slowest = max(slowest, time.perf_counter() - began)
            counts["lost"] += len(responses) - len(found)
            for response, (verdict, _) in zip(responses, found, strict=True):
                counts[str(verdict.outcome)] += 1
                counts["misjudged"] += verdict.quality != float(response == RIGHT)
            if first % 1000 == 0:
                print(f"{first}: {dict(counts)}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started
    left = [child.pid for child in psutil.Process().children(recursive=True)]
    escapes = (_places(Path("/tmp"), "escaped-") - written) | (_places(Path("/dev/shm")) - shared)
    result = {
        "name": "programs",
        "num_programs": num,
        "hangs": int(slowest > 100 / PROCESSES * HANGS_AFTER),
        "escapes": len(escapes) + len(left),
        "lost": counts["lost"],
        "misjudged": counts["misjudged"],
        "goals": {"hangs": 0, "escapes": 0, "lost": 0},
        "outcomes": {name: n for name, n in counts.items() if name not in ("lost", "misjudged")},
        "slowest_hundred_seconds": round(slowest, 1),
        "programs_per_second": round(num / seconds, 1),
        "config": {
            "timeout_seconds": TIMEOUT_SECONDS,
            "memory_gib": MEMORY_GIB,
            "processes": PROCESSES,
            "seed": SEED,
        },
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "seconds": round(seconds, 1),
    }
    publish(result, is_quick)


def _places(folder: Path, prefix: str = "") -> set[str]:
    return {path.name for path in folder.glob(f"{prefix}*")} if folder.exists() else set()


if __name__ == "__main__":
    main()
