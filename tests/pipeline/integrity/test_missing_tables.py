"""Tables that a finished step should have left: which are missed, which need not be there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.pipeline.integrity.missing_tables import missing_tables, table_settings
from persyn_ray.pipeline.results.explain import state
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.problems import Problems
from persyn_ray.shards.part_files import parts_in
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout, run_of

from ...conftest import leave_record

Finished = tuple[Recipe, RunLayout]
Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Finished:
    """A finished run that a test may damage; its student answered every held-out problem."""
    recipe, run = finished
    folder = tmp_path / "copy"
    shutil.copytree(run.root.path(""), folder)
    recipe = recipe.model_copy(update={"run": str(folder)})
    return recipe, run_of(recipe)


def missed(recipe: Recipe, run: RunLayout) -> dict[str, str]:
    problems = Problems()
    missing_tables(table_settings(recipe), run, dict(state(run)), problems)
    return problems.reasons


def places(recipe: Recipe, run: RunLayout) -> dict[str, tuple[Folder, str]]:
    """Tables with the step that makes each, by the name under which they are missed."""
    teacher = recipe.teachers[0]
    return {
        "prompts": (run.prompts, "prompts"),
        f"learnability.{teacher.name}": (run.learnability(teacher), "score"),
        "rewards": (run.rewards, "rewards"),
        "logits": (run.logits, "route"),
        f"assignment.{PERSYN}": (run.assignment(PERSYN), "route"),
        f"examples.{PERSYN}": (run.examples(PERSYN), "synthesize"),
        f"evaluations.{BEFORE}": (run.evaluations(BEFORE), "evaluate"),
    }


def test_a_whole_run_misses_nothing(finished: Finished) -> None:
    assert missed(*finished) == {}


def test_a_lost_shard_is_named_with_its_table_and_what_makes_it_anew(copied: Finished) -> None:
    recipe, run = copied
    parallel = shards_of(run, "parallel")[0]
    for name, (folder, step) in places(recipe, run).items():
        lost = shards_of(run, "heldout")[0] if step == "evaluate" else parallel
        (file,) = [part.name for part in parts_in(folder, lost)]
        kept = Path(folder.path(file)).read_bytes()
        folder.remove(file)
        found = missed(recipe, run)
        assert list(found) == [f"tables.{name}"]
        assert lost in found[f"tables.{name}"]
        assert f"--from {step}`" in found[f"tables.{name}"]
        Path(folder.path(file)).write_bytes(kept)
    assert missed(recipe, run) == {}


def test_many_lost_shards_are_counted_and_three_are_named(copied: Finished) -> None:
    recipe, run = copied
    lost = run.rewards.names(".parquet")
    for name in lost:
        run.rewards.remove(name)
    (reason,) = missed(recipe, run).values()
    assert reason.startswith(f"{len(lost)} of {len(lost)} shards are not there")
    assert sum(name in reason for name in lost) == min(3, len(lost))


def test_steps_that_are_not_done_miss_nothing(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe()
    assert missed(recipe, run_of(recipe)) == {}
    assert missed(recipe, carry_out(recipe, until="prompts")) == {}


def test_a_student_that_answered_some_problems_only_misses_no_shard(copied: Finished) -> None:
    recipe, run = copied
    run.evaluations(BEFORE).remove(shards_of(run, "heldout")[0])
    evaluate = recipe.evaluate.model_copy(update={"limit": 1})
    assert missed(recipe.model_copy(update={"evaluate": evaluate}), run) == {}


@pytest.mark.parametrize(("over_budget", "is_missed"), [(3, False), (0, True)])
def test_grades_that_a_budget_has_cut_are_dead_letters_and_no_lost_tables(
    make_recipe: Make, carry_out: CarryOut, over_budget: int, is_missed: bool
) -> None:
    engine = {"kind": "recorded", "path": "never-read.jsonl"}
    judge: dict[str, Any] = {"kind": "judge", "engine": engine}
    recipe = make_recipe({"scoring.quality": judge, "scoring.alpha": 0.0, "evaluate.check": None})
    run = carry_out(recipe, until="collect")
    leave_record(recipe, "score", {"rows": 1, "over_budget": over_budget})
    part = table_settings(recipe).parts[0]
    for teacher in recipe.teachers:  # begun, and not gone on with
        run.quality(teacher, part).write_json("begun.json", {})
    wanted = {f"tables.quality.{name}" for name in recipe.pool} if is_missed else set[str]()
    assert set(missed(recipe, run)) == wanted
