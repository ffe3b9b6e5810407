"""Does routing pay? The lab's experiments: many seeds, every baseline, one student each.

    python benchmarks/evidence.py            # writes results/evidence.json; about 2 hours
    python benchmarks/evidence.py --quick    # two seeds of small blocks, nothing written

The world is the quickstart's: its recipe, its trained teachers and student. A seed draws a block of
fresh problems, splits it, fits the router and tunes the students; teachers and student themselves
were trained once, so their training is in no interval. All students answer the same held-out
problems, which no block contains and nothing is chosen by. Everything is kept below the cache
folder: stopped, it goes on where it was. What is measured, and how, stands in `lab/`.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab import ablations, pools, prediction
from lab.bank import fill, problems
from lab.main import main as compare_all
from lab.world import Lab
from publishing import ROOT, publish

RECIPE = ROOT / "jobs" / "quickstart.yaml"
OVERRIDES = (
    "compare.weak=weak",
    "compare.family=[weak]",
)
NUM_SEEDS, BLOCK, NUM_PARALLEL, NUM_HELDOUT = 10, 1200, 400, 2000
QUICK = (2, 160, 80, 80)
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
GOALS = {"max_p_value": 0.05, "oracle_fraction": 0.98, "num_seeds": 10}


def main() -> None:
    """Carry out the experiments and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "evidence")
    parser.add_argument("--only", nargs="*", help="names of experiments")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else (NUM_SEEDS, BLOCK, NUM_PARALLEL, NUM_HELDOUT)
    started = time.monotonic()
    num_seeds, block, num_parallel, num_heldout = sizes
    cache = arguments.cache.with_name(arguments.cache.name + ("-quick" if arguments.quick else ""))
    prompts, heldout = problems(num_seeds, block, num_heldout)
    bank = fill(cache / "bank", RECIPE, OVERRIDES, prompts, 1200)
    answers = fill(cache / "heldout", RECIPE, OVERRIDES, heldout, 1000)
    lab = Lab(cache, RECIPE, OVERRIDES, bank, answers, num_seeds, block, num_parallel)
    found: dict[str, Any] = {}
    for name, experiment in EXPERIMENTS.items():
        if not arguments.only or name in arguments.only:
            print(f"evidence: {name}", file=sys.stderr, flush=True)
            found[name] = experiment(lab)
            (cache / f"{name}.json").write_text(json.dumps(found[name], indent=2))
    num_students = len(list((cache / "students").glob("*.json")))
    done = result(found, sizes, num_students, time.monotonic() - started)
    publish(done, arguments.quick or bool(arguments.only))


def result(
    found: dict[str, Any], sizes: tuple[int, ...], num_students: int, seconds: float
) -> dict[str, Any]:
    """The result with its headline figures first."""
    packages = ("torch", "transformers", "deepspeed", "numpy")
    names = ("num_seeds", "block", "num_parallel", "num_heldout")
    return {
        "name": "evidence",
        **{
            key: found["main"][key] for key in ("max_p_value", "oracle_fraction") if "main" in found
        },
        **dict(zip(names, sizes, strict=True)),
        "goals": GOALS,
        "experiments": found,
        "config": {"recipe": str(RECIPE.relative_to(ROOT)), "overrides": list(OVERRIDES)},
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "versions": {name: version(name) for name in packages},
        "num_students": num_students,
        "seconds_of_last_start": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
