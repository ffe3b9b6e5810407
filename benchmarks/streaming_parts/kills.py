"""kill -9 of drivers, actors, engines and raylets while rows are collected, scored, synthesized.

A simulation as far as teachers go: their engines only wait (`killing/engine.py`), and keep logs of
their own of what they begin and end, from which lost, doubled and repeated rows are counted. All
else is real: raylets on this machine, the project's steps, the student's scoring. Kills are made in
sittings of some minutes, each with a seed of its own; sittings add up in the file of results.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
COUNTED = (
    "rows_wanted",
    "rows_lost",
    "rows_unwanted",
    "rows_duplicated",
    "rows_seen_twice",
    "scores_lost",
    "scores_duplicated",
    "rows_begun",
    "in_flight",
    "rework",
    "rework_after_end",
    "rework_over_in_flight",
)


def sitting(num_kills: int, seed: int, rows: int | None = None) -> list[dict[str, Any]]:
    """Runs under kills on a cluster of their own, in a process of its own: raylets without a token
    and a Ray that no other part has started."""
    variables = {name: of for name, of in os.environ.items() if not name.startswith("RAY_")}
    paths = os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)])
    with TemporaryDirectory(prefix="kills-") as folder:
        numbers = [str(one) for one in (num_kills, seed, rows) if one is not None]
        ended = subprocess.run(
            [sys.executable, "-m", "streaming_parts.killing.sitting", folder, *numbers],
            cwd=BENCHMARKS,
            env=variables | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
        )
    lines = [line for line in ended.stdout.splitlines() if line.startswith('[{"step": ')]
    if ended.returncode or len(lines) != 1:
        raise RuntimeError(f"the sitting of seed {seed} has failed: {ended.stdout[-2000:]}")
    return json.loads(lines[0])


def totals(sittings: list[dict[str, Any]]) -> dict[str, Any]:
    """What all sittings together lost, doubled and did again."""
    runs = [run for one in sittings for run in one["runs"]]
    kills = [kill for run in runs for kill in run["kills"]]
    of_kind = Counter(kill["kind"] for kill in kills)
    return {
        "num_kills": len(kills),
        "kills_by_kind": dict(sorted(of_kind.items())),
        "kills_by_step": dict(Counter(run["step"] for run in runs for _ in run["kills"])),
        "driver_failures": sum(len(run["failures"]) for run in runs),
        "most_in_flight": max((k["running"] + k["unwritten"] for k in kills), default=0),
        "longest_without_work": max((k["working_after"] or 0.0 for k in kills), default=0.0),
        **{name: sum(run.get(name, 0) for run in runs) for name in COUNTED},
    }


def measure(is_quick: bool, num_kills: int, seed: int, known: dict[str, Any]) -> dict[str, Any]:
    """One more sitting beside those that are known; one of the same seed takes the old one's place.

    Args:
        known: this part's figures so far.
    """
    began = time.monotonic()
    try:
        runs = sitting(6, seed, 100) if is_quick else sitting(num_kills, seed)
    except RuntimeError as error:  # the others stay
        return known | {"failed": str(error)[-2000:]}
    one = {
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "runs": runs,
        "versions": {name: version(name) for name in ("ray", "pyarrow", "persyn-ray")},
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
    }
    others = [of for of in known.get("sittings", []) if of["seed"] != seed]
    sittings = sorted([*others, one], key=lambda of: of["seed"])
    return {
        "simulation": "engines that only wait, on logical GPUs; all else is real",
        **totals(sittings),
        "config": {"nodes": 3, "cpus": 3, "gpus": 2, "teachers": 2, "replicas": 2, "slots": 8},
        "sittings": sittings,
    }
