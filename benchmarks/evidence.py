"""Does routing pay? The lab's experiments: many seeds, every baseline, one student each.

    python benchmarks/evidence.py                  # writes results/evidence.json; about 2 hours
    python benchmarks/evidence.py --world second   # writes results/evidence_second.json
    python benchmarks/evidence.py --quick          # two seeds of small blocks, nothing written

The first world is the quickstart's: its recipe, its trained teachers and student. The second
(jobs/second_world.yaml) has scripted teachers beside a trained one, and the same student, seeds and
held-out problems. A seed draws a block of fresh problems, splits it, fits the router and tunes the
students; teachers and student themselves were trained once, so their training is in no interval.
All students answer the same held-out problems, which no block contains and nothing is chosen by;
what is tried is tried with `--development`, on blocks and held-out problems of its own.
Everything is kept below the cache folder: stopped, it goes on where it was, and `--minutes` stops
it in time. What is measured, and how, stands in `lab/`.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab import ablations, pools, prediction
from lab.bank import DEVELOPMENT, OutOfTime, fill, problems
from lab.main import main as compare_all
from lab.second import routing, second
from lab.world import Lab
from publishing import ROOT, publish

FULL = (10, 1200, 400, 2000)
QUICK = (2, 160, 80, 80)
"""Seeds, prompts of a seed, of which so many are parallel, and held-out problems."""
EXPERIMENTS = {
    "main": compare_all,
    "car_beta": ablations.car_beta,
    "losses": ablations.losses,
    "prediction": prediction.prediction,
    "alpha": ablations.alpha,
    "alpha_by_difficulty": ablations.alpha_by_difficulty,
    "parallel_size": ablations.parallel_size,
    "weak_quality": ablations.weak_quality,
    "extreme_scale": pools.extreme_scale,
    "newcomer": pools.newcomer,
    "hedging": pools.hedging,
}


@dataclass(frozen=True)
class World:
    """A recipe, and what is tried in it."""

    name: str
    """Of the result."""
    recipe: Path
    overrides: tuple[str, ...]
    experiments: dict[str, Callable[[Lab], dict[str, Any]]]


WORLDS = {
    "first": World(
        "evidence",
        ROOT / "jobs" / "quickstart.yaml",
        ("compare.weak=weak", "compare.family=[weak]"),
        EXPERIMENTS,
    ),
    "second": World(
        "evidence_second",
        ROOT / "jobs" / "second_world.yaml",
        (),
        {"routing": routing, "main": second},
    ),
}
GOALS = {"max_p_value": 0.05, "oracle_fraction": 0.98, "num_seeds": 10}


def main() -> None:
    """Carry out the experiments and print the result as one JSON line."""
    arguments = parsed()
    world, sizes = WORLDS[arguments.world], list(QUICK if arguments.quick else FULL)
    sizes[0] = arguments.seeds or sizes[0]
    started = time.monotonic()
    until = None if arguments.minutes is None else started + 60 * arguments.minutes
    found: dict[str, Any] = {}
    is_whole, num_students = True, 0
    try:
        lab = built(world, arguments, tuple(sizes), until)
        for name, experiment in world.experiments.items():
            if not arguments.only or name in arguments.only:
                print(f"evidence: {name}", file=sys.stderr, flush=True)
                found[name] = experiment(lab)
                (lab.cache / f"{name}.json").write_text(json.dumps(found[name], indent=2))
                num_students = len(list((lab.cache / "students").glob("*.json")))
    except OutOfTime:
        is_whole = False
        print("evidence: out of time; the same command goes on", file=sys.stderr)
    done = result(world, found, tuple(sizes), num_students, time.monotonic() - started)
    is_kept = is_whole or (bool(found) and not has_students(world))
    is_quick = arguments.quick or arguments.development or bool(arguments.only)
    publish(done, is_quick or not is_kept)


def has_students(world: World) -> bool:
    """Whether a result is on file that a run whose time was over must not take the place of."""
    file = ROOT / "benchmarks" / "results" / f"{world.name}.json"
    return file.exists() and "main" in json.loads(file.read_text())["experiments"]


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", choices=list(WORLDS), default="first")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cache", type=Path, help="by default below runs/")
    parser.add_argument("--only", nargs="*", help="names of experiments")
    parser.add_argument("--seeds", type=int, help=f"number of seeds, by default {FULL[0]}")
    parser.add_argument("--minutes", type=float, help="begin no student after so many minutes")
    parser.add_argument("--development", action="store_true", help="other problems; writes nothing")
    return parser.parse_args()


def built(
    world: World, arguments: argparse.Namespace, sizes: tuple[int, ...], until: float | None
) -> Lab:
    """The world with all its teachers' responses."""
    num_seeds, block, num_parallel, num_heldout = sizes
    ending = ("-quick" if arguments.quick else "") + ("-dev" if arguments.development else "")
    cache = arguments.cache or ROOT / "runs" / world.name
    cache = cache.with_name(cache.name + ending)
    first = DEVELOPMENT if arguments.development else 0
    prompts, heldout = problems(num_seeds, block, num_heldout, first)
    heldout = heldout[:400] if arguments.development else heldout
    bank = fill(cache / "bank", world.recipe, world.overrides, prompts, 1200, until)
    answers = fill(cache / "heldout", world.recipe, world.overrides, heldout, 1000, until)
    settings = (num_seeds, block, num_parallel, first, until)
    return Lab(cache, world.recipe, world.overrides, bank, answers, *settings)


def result(
    world: World,
    found: dict[str, Any],
    sizes: tuple[int, ...],
    num_students: int,
    seconds: float,
) -> dict[str, Any]:
    """The result with its headline figures first."""
    packages = ("torch", "transformers", "deepspeed", "numpy")
    names = ("num_seeds", "block", "num_parallel", "num_heldout")
    return {
        "name": world.name,
        **{
            key: found["main"][key] for key in ("max_p_value", "oracle_fraction") if "main" in found
        },
        **dict(zip(names, sizes, strict=True)),
        "goals": GOALS,
        "experiments": found,
        "config": {
            "recipe": str(world.recipe.relative_to(ROOT)),
            "overrides": list(world.overrides),
        },
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "versions": {name: version(name) for name in packages},
        "num_students": num_students,
        "seconds_of_last_start": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
