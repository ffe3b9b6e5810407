"""Recipes and rewards from Python: the same plans, runs and formulas as everywhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import persyn_ray as persyn
from persyn_ray.storage.layout import RunLayout

Make = Callable[..., persyn.Recipe]


def test_rewards_are_eq_2_on_scaled_signals() -> None:
    quality = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [np.nan, 1.0, 0.0]])
    learnability = np.array([[-1.0, -3.0, -2.0], [-2.0, -1.0, -3.0], [-1.0, -1.5, -2.5]])
    expected = [
        [0.6 * 1 + 0.4 * 1, 0.0, 0.6 * 1 + 0.4 * 0.5],
        [0.4 * 0.5, 0.4 * 1, 0.6 * 1],
        [np.nan, 0.6 + 0.4, 0.0],
    ]
    np.testing.assert_allclose(persyn.rewards(quality, learnability), expected)
    by_prompt = persyn.rewards(quality, learnability, alpha=[0.4, 0.0, 1.0])
    np.testing.assert_allclose(by_prompt[0], expected[0])
    np.testing.assert_allclose(by_prompt[1], quality[1])
    with pytest.raises(persyn.DataError, match=r"shape \(3,\)"):
        persyn.rewards([1, 0, 1], [-1, -2, -3])
    with pytest.raises(persyn.ConfigError, match="alpha"):
        persyn.rewards(quality, learnability, alpha=1.5)


def test_a_plan_is_that_of_the_command_with_overrides_and_from_an_object(
    make_recipe: Make, tmp_path: Path
) -> None:
    recipe, path = make_recipe(), tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    assert persyn.load_recipe(path) == recipe
    assert persyn.plan(recipe).responses_collect == 36
    assert persyn.plan(path, ["prompts.num_parallel=8"]).responses_collect == 24
    assert persyn.plan(recipe, ["prompts.num_parallel=8"]).responses_collect == 24
    assert persyn.plan(path, cluster="1x8x80").num_prompts["parallel"] == 12
    with pytest.raises(persyn.ConfigError, match=r"section\.key=value"):
        persyn.plan(recipe, ["alpha"])


def test_a_run_folder_says_what_it_holds(
    finished: tuple[persyn.Recipe, RunLayout], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    without_report = shutil.ignore_patterns("report.*")  # another test may have left one there
    shutil.copytree(finished[1].root.local_path, folder, ignore=without_report)
    with pytest.raises(persyn.ConfigError, match="no run folder"):
        persyn.finished_run(folder)
    (folder / "persyn-run.json").write_text("{}")
    done = persyn.finished_run(folder)
    assert done.folder == str(folder)
    assert done.router is not None
    assert persyn.Router.load(done.router).teachers == persyn.Router.load(folder).teachers
    assert done.student is not None
    assert done.report_page is None
    assert done.report == {}
