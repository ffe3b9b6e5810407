"""Step finetune of the lab through the pipeline: its seconds beside those inside train()."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from publishing import ROOT

SMALL = (
    "prompts.limit=200",
    "prompts.num_parallel=120",
    "router.epochs=1",
    "router.learning_curve=[]",
    "compare.students=false",
)


def lab_step(folder: Path, max_steps: int) -> dict[str, Any]:
    """Seconds of the step on one worker, one student, and of these outside train()."""
    from persyn_ray.recipe.recipe import load_recipe
    from persyn_ray.storage.layout import run_of
    from persyn_ray.storage.records import read_record
    from persyn_ray.storage.results import FinetuneResult, result_of

    settings = (f"run={folder / 'run'}", *SMALL, f"finetune.max_steps={max_steps}")
    recipe = ROOT / "persyn_ray" / "lab" / "quickstart.yaml"
    command = [sys.executable, "-m", "persyn_ray.cli", "run", str(recipe), *settings]
    for until in ("synthesize", "finetune"):
        subprocess.run([*command, "--until", until], cwd=ROOT, check=True, stdout=sys.stderr)
    record = read_record(run_of(load_recipe(recipe, settings)).records, "finetune")
    assert record is not None
    students = result_of(record, FinetuneResult).students.values()
    inside = sum(of.speed.seconds for of in students if of.speed)
    return {"step": record.seconds, "inside_train": inside, "outside": record.seconds - inside}
