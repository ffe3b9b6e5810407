"""With alpha 0 the student scores nothing, unless something asks for its measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import DriftError
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.pipeline.results.explain import explain
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import planned_steps, require_no_drift
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.stages.learnability import Learnability
from persyn_ray.storage.layout import RunLayout, run_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


@pytest.mark.parametrize(
    ("changes", "is_measured"),
    [
        ({}, True),
        ({"scoring.alpha": 0.01}, True),
        ({"scoring.alpha": 0}, False),
        ({"scoring.alpha": 0, "scoring.measure": "always"}, True),
        ({"scoring.alpha": 0, "scoring.alpha_by_difficulty": {}}, True),
        ({"scoring.alpha_by_difficulty": {"hard": 0, "easy": 0}}, False),
        ({"scoring.alpha": 0, "compare.methods": ["car"]}, True),
        ({"scoring.alpha": 0, "compare.methods": ["learnability_only"]}, True),
        ({"scoring.alpha": 0, "compare.methods": ["oracle", "quality_only", "knn"]}, False),
        ({"scoring.alpha": 0, "assignment": {"max_tokens": 9}}, False),
    ],
)
def test_the_student_scores_what_something_reads(
    make_recipe: Make, changes: dict[str, Any], is_measured: bool
) -> None:
    assert make_recipe(changes).measures_learnability is is_measured


def test_limits_in_tokens_of_recorded_responses_need_the_student_to_count_them(
    make_recipe: Make, tmp_path: Path
) -> None:
    engine = {"kind": "recorded", "path": str(tmp_path / "recorded.jsonl")}
    changes = {"teachers": [{"name": "a", "engine": engine}], "scoring.alpha": 0}
    assert not make_recipe(changes).measures_learnability
    assert make_recipe(changes | {"assignment": {"max_tokens": 9}}).measures_learnability


@pytest.fixture
def without_student(
    make_recipe: Make,
    carry_out: CarryOut,
    random_llama: str,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Recipe, RunLayout]:
    """A whole run with alpha 0, in which scoring by the student would fail."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the student is asked to score")

    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models | {"scoring.alpha": 0})
    with monkeypatch.context() as patched:
        patched.setattr(Learnability, "__init__", refuse)
        run = carry_out(recipe)
    return recipe, run


def test_a_whole_run_without_learnability_ends_with_its_report(
    without_student: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = without_student
    assert not (run.root / "tables" / "learnability").exists()
    assert not any(Score(recipe).open_rows(shard) for shard in shards_of(run, "parallel"))
    page = Path(write_report(recipe, run, Console(quiet=True))).read_text()
    report = json.loads(Path(run.root.local_path, "report.json").read_text())
    assert report["alpha_sweep"] is None
    assert all(
        of["mean_reward"]["value"] is not None for of in report["reward"]["teachers"].values()
    )
    assert {of["mean_learnability"] for of in report["reward"]["teachers"].values()} == {None}
    assert "Learnability was not measured: alpha is 0" in page
    assert "no learnability was measured (" in page


def test_explain_and_plan_say_that_it_is_not_measured(
    without_student: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = without_student
    (shard, *_) = shards_of(run, "parallel")
    prompt_id = run.prompts.read_table(shard)["prompt_id"][0].as_py()
    found = explain(recipe, run, prompt_id)
    assert {of["learnability"] for of in found["teachers"].values()} == {"not measured"}
    shown = CliRunner().invoke(app, ["explain", recipe.run, prompt_id], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "not measured" in shown.output
    (row,) = [row for row in plan_run(recipe).rows if row.step == "score"]
    assert row.needs == "1 actor x 1 CPU, without the student: alpha is 0"


def test_another_alpha_measures_what_is_open_and_judges_nothing_anew(
    without_student: tuple[Recipe, RunLayout], make_recipe: Make, random_llama: str
) -> None:
    _, run = without_student
    before = {
        path: path.stat().st_mtime_ns
        for kind in ("quality", "responses")
        for path in (run.root.local_path / "tables" / kind).rglob("*.parquet")
    }
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    mixed = make_recipe(models | {"scoring.alpha": 0.4})
    plan = planned_steps(mixed, run_of(mixed))
    assert [one.step.name for one in plan if one.is_done] == ["prompts", "collect"]
    require_no_drift(plan, ("scoring.alpha=0.4",), None)
    with pytest.raises(DriftError, match=r"score: scoring.measure was 'if_needed'"):
        require_no_drift(plan, (), None)
    shards = shards_of(run, "parallel")
    assert all(Score(mixed).open_rows(shard) for shard in shards)
    work = Score(mixed)
    for unit in units_of(shards):
        work(unit)
    assert not any(Score(mixed).open_rows(shard) for shard in shards)
    assert {path: path.stat().st_mtime_ns for path in before} == before
