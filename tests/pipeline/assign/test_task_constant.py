"""Methods that predict rewards: the best teacher per task, tuned k-NN and the stacked predictor."""

from dataclasses import replace

import numpy as np
import pytest

from persyn_ray.method.arrays import Floats
from persyn_ray.pipeline.assign.methods import (
    Choices,
    MethodSettings,
    Parallel,
    method_teachers,
)
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.shards.tables import Rewards

SETTINGS = MethodSettings(TeacherPool(("a", "b", "c")), 0, "none", CompareConfig())
IDS = tuple(f"p{number}" for number in range(240))
TASKS = tuple("xyz"[number % 3] for number in range(240))
HOME_P = np.arange(240) % 3


def rewards(values_PM: Floats) -> Rewards:
    return Rewards(IDS, values_PM, values_PM, values_PM)


def world() -> tuple[Parallel, Choices]:
    """Teacher m is best on task m; the overall best is a."""
    rng = np.random.default_rng(0)
    values_PM = 0.5 * np.eye(3)[HOME_P] + [0.1, 0, 0] + rng.normal(0, 0.4, (240, 3))
    embeddings_PD = np.eye(3)[HOME_P] + rng.normal(0, 0.2, (240, 3))
    known = Parallel(rewards(values_PM), np.ones(3), embeddings_PD, TASKS)
    able_PM = np.ones((240, 3), dtype=bool)
    asked = Choices(IDS, np.zeros((240, 3)), able_PM, None, embeddings_PD, tasks=TASKS)
    return known, asked


@pytest.mark.parametrize("method", ["task_constant", "knn", "linear_probe", "stacked"])
def test_what_predicts_rewards_finds_each_task_its_teacher(method: str) -> None:
    known, asked = world()
    chosen_P, margin_P = method_teachers(method, SETTINGS, asked, known)
    assert (chosen_P == HOME_P).mean() > 0.95
    assert (margin_P >= 0).all()


def test_without_labels_the_best_per_task_is_the_best_of_all() -> None:
    known, asked = world()
    unlabelled = replace(asked, tasks=None)
    chosen_P, _ = method_teachers("task_constant", SETTINGS, unlabelled, replace(known, tasks=None))
    assert (chosen_P == 0).all()


def test_a_teacher_that_cannot_take_a_prompt_is_not_given_it() -> None:
    known, asked = world()
    able_PM = asked.candidates_PM.copy()
    able_PM[HOME_P == 1, 1] = False
    chosen_P, _ = method_teachers(
        "task_constant", SETTINGS, replace(asked, candidates_PM=able_PM), known
    )
    assert (chosen_P[HOME_P == 1] != 1).all()
    assert (chosen_P[HOME_P == 2] == 2).all()


def test_a_number_of_neighbours_that_is_set_is_kept() -> None:
    known, asked = world()
    few = replace(SETTINGS, compare=CompareConfig(num_neighbours=1))
    itself_P, _ = method_teachers("knn", few, asked, known)
    assert (itself_P == known.signals.rewards_PM.argmax(axis=1)).all()  # each is its own nearest
    assert known.num_neighbours > 1
