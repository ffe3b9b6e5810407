"""The shipped lab from end to end on a real Ray, made small."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from persyn_ray.errors import DriftError
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.runtime.session import Cluster
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.results import CollectResult, SynthesizeResult, read_result

pytestmark = [pytest.mark.ray, pytest.mark.timeout(2400)]
ROOT = Path(__file__).parents[2]
EVALUATION_SET = ROOT / "persyn_ray" / "lab" / "assets" / "heldout.jsonl"
NUM_HELDOUT = 80
METHODS = {"persyn", "random", "best_constant", "strong"}


def quiet() -> Console:
    return Console(file=io.StringIO())


def times(folder: Path) -> dict[str, int]:
    """Modification time of every table file."""
    return {str(file): file.stat().st_mtime_ns for file in sorted(folder.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def small_quickstart(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Recipe:
    """All of its steps and methods; of the evaluation set the first prompts."""
    folder = tmp_path_factory.mktemp("quickstart")
    lines = EVALUATION_SET.read_text().splitlines(keepends=True)
    (folder / "heldout.jsonl").write_text("".join(lines[:NUM_HELDOUT]))
    overrides = (
        f"run={folder}/run",
        "prompts.limit=200",
        "prompts.num_parallel=120",
        "prompts.shard_rows=60",
        "router.epochs=2",
        "router.learning_curve=[40]",
        "finetune.max_steps=4",
        "finetune.save_steps=2",
        f"evaluate.path={folder}/heldout.jsonl",
        "evaluate.limit=40",
    )
    recipe = load_recipe(ROOT / "jobs" / "quickstart.yaml", overrides)
    run_recipe(recipe, quiet())
    return recipe


def test_the_quickstart_ends_with_its_report_data_set_router_and_students(
    small_quickstart: Recipe,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = run_of(small_quickstart)
    address = write_report(small_quickstart, run, quiet())
    report = json.loads(Path(run.root.local_path, "report.json").read_text())
    assert "<svg" in Path(address).read_text()
    assert set(report["allocation"]["methods"]) == METHODS
    assert set(report["student"]["methods"]) == METHODS
    assert report["router"]["heldout_set"] == "held-out prompts"
    assert set(report["router"]["references"]) == METHODS | {"oracle"}
    assert report["router"]["references"]["oracle"]["regret"]["value"] == 0
    for shares in report["allocation"]["methods"].values():
        assert sum(shares.values()) == pytest.approx(1)
    assert [step["step"] for step in report["timing"]["steps"]][-1] == "evaluate"
    folder = run.student("persyn").local_path
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_teachers_answer_only_what_they_were_chosen_for_and_all_of_it_is_checked(
    small_quickstart: Recipe,
) -> None:
    run = run_of(small_quickstart)
    asked = read_result(run.records, SynthesizeResult)
    assert asked is not None
    assert 80 <= asked.rows < 80 * len(small_quickstart.pool)  # 4 methods, 80 routed prompts
    collected = read_result(run.records, CollectResult)
    assert collected is not None
    assert collected.rows == (120 + NUM_HELDOUT) * len(small_quickstart.pool)
    report = json.loads(Path(run.root.local_path, "report.json").read_text())
    for facts in report["student"]["methods"].values():
        assert 0 <= facts["correct_share"] <= 1


def test_the_data_set_loads_with_the_datasets_library(
    small_quickstart: Recipe, tmp_path: Path
) -> None:
    import datasets

    run = run_of(small_quickstart)
    files = [str(path) for path in (run.dataset / "data").local_path.glob("*.parquet")]
    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path)
    )
    assert len(loaded) == 200
    assert loaded[0]["messages"][-1]["role"] == "assistant"
    assert set(loaded["teacher"]) <= set(small_quickstart.pool.names)


def test_a_finished_run_does_nothing_and_a_new_alpha_scores_nothing(
    small_quickstart: Recipe,
) -> None:
    tables = run_of(small_quickstart).root.local_path / "tables"
    before = times(tables)
    run_recipe(small_quickstart, quiet())
    assert times(tables) == before

    changed = small_quickstart.model_copy(
        update={"scoring": small_quickstart.scoring.model_copy(update={"alpha": 0.6})}
    )
    with pytest.raises(DriftError, match=r"scoring\.alpha was 0\.4, the recipe says 0\.6"):
        run_recipe(changed, quiet())
    run_recipe(changed, quiet(), overrides=("scoring.alpha=0.6",), until="rewards")
    after = times(tables)
    kept = ("responses", "learnability", "quality", "prompts")
    for name, written in before.items():
        if any(f"/tables/{kind}/" in name for kind in kept):
            assert after[name] == written
    assert any(after[name] != before[name] for name in before if "/tables/rewards/" in name)
    # leave the run as it was for whoever comes next
    run_recipe(small_quickstart, quiet(), start="rewards", until="rewards")
