"""What route-then-generate costs against generate-then-select, counted on the lab.

    python benchmarks/savings.py            # writes benchmarks/results/savings.json
    python benchmarks/savings.py --quick    # fewer prompts, nothing written

Both ways are really carried out with the quickstart's teachers, each in a run of its own, and their
responses and tokens are counted in the stored tables. With k teachers and n of N prompts in the
parallel set, the share of responses is (k n + (N - n)) / (k N). The share of tokens differs from it
as far as the teachers that prompts are routed to write more or less than the average one.
"""

import argparse
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from publishing import ROOT, publish

from persyn_ray.recipe.recipe import load_recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import run_of

RECIPE = ROOT / "jobs" / "quickstart.yaml"
GOALS = {"tokens_over_formula": [0.98, 1.02]}
COMMON = ("compare.students=false", "compare.heldout=false", "router.learning_curve=[]")


def counted(name: str, overrides: tuple[str, ...], until: str) -> dict[str, Any]:
    """Responses and tokens of every teacher after the step `until` of a run from nothing."""
    folder = ROOT / "runs" / f"benchmark-savings-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    given = (f"run={folder}", *COMMON, *overrides)
    command = [
        sys.executable,
        "-m",
        "persyn_ray.cli.main",
        "run",
        str(RECIPE),
        *given,
        "--until",
        until,
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    recipe = load_recipe(RECIPE, given)
    run, responses, tokens = run_of(recipe), 0, 0
    for teacher in recipe.teachers:
        for _, table in run.responses(teacher).tables(["num_tokens"]):
            responses += table.num_rows
            tokens += sum(table["num_tokens"].to_pylist())
    sizes = {
        split: sum(run.prompts.num_rows(shard) for shard in shards_of(run, split))
        for split in ("parallel", "routed")
    }
    return {"responses": responses, "tokens": tokens, **sizes, "teachers": len(recipe.pool)}


def figures_of(routed: dict[str, Any], selected: dict[str, Any]) -> dict[str, Any]:
    """The measured shares and the formula's."""
    k, n, total = routed["teachers"], routed["parallel"], routed["parallel"] + routed["routed"]
    formula = (k * n + (total - n)) / (k * total)
    responses = routed["responses"] / selected["responses"]
    tokens = routed["tokens"] / selected["tokens"]
    return {
        "formula": round(formula, 4),
        "responses_share": round(responses, 4),
        "responses_over_formula": round(responses / formula, 4),
        "tokens_share": round(tokens, 4),
        "tokens_over_formula": round(tokens / formula, 4),
        "route_then_generate": routed,
        "generate_then_select": selected,
    }


def main() -> None:
    """Carry out both ways and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer prompts; nothing is written")
    options = parser.parse_args()
    total, parallel = (200, 120) if options.quick else (1200, 400)
    size = (f"prompts.limit={total}",)
    routed = counted("route", (*size, f"prompts.num_parallel={parallel}"), "synthesize")
    selected = counted("select", (*size, f"prompts.num_parallel={total}"), "collect")
    result = {
        "name": "savings",
        "figures": figures_of(routed, selected),
        "goals": GOALS,
        "hardware": {"cpus": os.cpu_count(), "gpus": 0},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers")},
        "seed": 0,
        "config": {"recipe": "jobs/quickstart.yaml", "prompts": total, "parallel": parallel},
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
