"""Real systems' recorded answers and a real student from end to end on a real Ray, made small."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import load_recipe
from persyn_ray.runtime.session import Cluster

pytestmark = [pytest.mark.ray, pytest.mark.assets, pytest.mark.timeout(2400)]
ROOT = Path(__file__).parents[2]
METHODS = {"persyn", "random", "best_constant", "strong"}


def test_real_recorded_answers_and_a_real_student_go_the_whole_way(
    tmp_path: Path, cluster: Cluster
) -> None:
    if not (ROOT / "../shared/data/gsm8k_parallel.parquet").exists():
        pytest.skip("../shared/data/gsm8k_parallel.parquet is not here")
    recipe = load_recipe(
        ROOT / "jobs" / "gsm8k_recorded.yaml",
        (
            f"run={tmp_path}/run",
            "prompts.limit=16",
            "prompts.num_parallel=8",
            "prompts.num_heldout=4",
            "prompts.shard_rows=4",
            "router.epochs=1",
            "router.learning_curve=[]",
            "finetune.max_steps=1",
            "finetune.batch_size=2",
            "finetune.micro_batch_size=2",
            "finetune.max_length=256",
            "evaluate.limit=2",
            "evaluate.max_tokens=8",
        ),
    )
    quiet = Console(file=io.StringIO())
    run = run_recipe(recipe, quiet)
    write_report(recipe, run, quiet)
    report = json.loads((run.root.local_path / "report.json").read_text())
    assert report["router"]["heldout_set"] == "held-out prompts"
    assert report["router"]["references"]["persyn"]["reward"]["num"] == 4
    assert set(report["router"]["differences"]) == METHODS - {"persyn"} | {"oracle"}
    assert report["reward"]["teachers"]["gpt-4"]["mean_learnability"] < 0
    assert report["prompts"]["num_duplicates"] == 5 * 1319
