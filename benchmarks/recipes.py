"""Run a shipped recipe from nothing and record its figures, wall time and peak memory.

    python benchmarks/recipes.py quickstart            # writes benchmarks/results/quickstart.json
    python benchmarks/recipes.py gsm8k_recorded
    python benchmarks/recipes.py quickstart --quick    # a few rows, nothing written

The run folder, runs/benchmark-NAME, stays for a look at its report. Peak memory is the sum of the
proportional set sizes of all its processes, sampled every second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import psutil
from publishing import ROOT, publish

GOALS = {
    "quickstart": {"wall_seconds": 300, "peak_memory_gib": 6},
    "gsm8k_recorded": {"wall_seconds": 1200},
}
QUICK = {
    "quickstart": (
        "prompts.limit=200",
        "prompts.num_parallel=120",
        "router.epochs=2",
        "finetune.max_steps=4",
        "compare.students=false",
        "evaluate.limit=40",
    ),
    "gsm8k_recorded": (
        "prompts.limit=48",
        "prompts.num_parallel=24",
        "prompts.num_heldout=12",
        "finetune.max_steps=2",
        "evaluate.limit=2",
        "router.learning_curve=[]",
    ),
}


def tree_gib(process: psutil.Process) -> float:
    """Memory of a process and all below it, shared pages counted once over their users."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**30


def measured_run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in GiB of a command; raises if it fails."""
    started, peak = time.monotonic(), 0.0
    running = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    process = psutil.Process(running.pid)
    while running.poll() is None:
        peak = max(peak, tree_gib(process))
        time.sleep(1)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return time.monotonic() - started, peak


def figures_of(report: dict[str, Any]) -> dict[str, Any]:
    """The numbers that people quote."""
    references = report["router"]["references"]
    student = report["student"] or {"methods": {}, "before": None, "differences": {}}
    return {
        "routed_reward": {name: of["reward"] for name, of in references.items()},
        "routed_reward_differences": report["router"]["differences"],
        "hit_at_1": report["router"]["hit_at_1"],
        "hit_at_3": report["router"]["hit_at_3"],
        "student_accuracy": {"before": student["before"], **student["methods"]},
        "student_differences": student["differences"],
        "tokens": {k: report["tokens"][k] for k in ("unit", "saving_fraction", "estimated")},
        "step_seconds": {step["step"]: step["seconds"] for step in report["timing"]["steps"]},
    }


def main() -> None:
    """Run, collect, print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(GOALS))
    parser.add_argument("overrides", nargs="*", help="section.key=value, recorded with the result")
    parser.add_argument("--quick", action="store_true", help="a few rows; nothing is written")
    options = parser.parse_args()
    folder = ROOT / "runs" / f"benchmark-{options.recipe}"
    shutil.rmtree(folder, ignore_errors=True)
    quick = QUICK[options.recipe] if options.quick else ()
    overrides = [f"run={folder}", *quick, *options.overrides]
    recipe = f"jobs/{options.recipe}.yaml"
    seconds, peak = measured_run(
        [sys.executable, "-m", "persyn_ray.cli.main", "run", recipe, *overrides]
    )
    report = json.loads((folder / "report.json").read_text())
    result = {
        "name": options.recipe,
        "figures": {
            "wall_seconds": round(seconds, 1),
            "peak_memory_gib": round(peak, 2),
            **figures_of(report),
        },
        "goals": GOALS[options.recipe],
        "hardware": {**report["run"]["hardware"], "load_at_end": round(os.getloadavg()[0], 2)},
        "versions": report["run"]["versions"],
        "seed": report["run"]["seed"],
        "config": {"recipe": recipe, "quick": options.quick, "overrides": options.overrides},
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
