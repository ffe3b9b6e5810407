"""Best teacher per task: what tasks add, and how far it is trusted."""

import numpy as np
import pytest

from persyn_ray.errors import DataError
from persyn_ray.method.predictors.task_means import TaskMeans, task_means, task_scores

TABLE = TaskMeans(("code", "math"), np.array([0.5, 0.2]), np.array([[0.1, -0.1], [-0.3, 0.3]]))


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        ("code", [0.6, 0.1]),
        ("math", [0.2, 0.5]),
        ("Math", [0.5, 0.2]),
        ("", [0.5, 0.2]),
        (None, [0.5, 0.2]),
    ],
)
def test_an_unknown_task_gets_the_overall_scores(task: str | None, scores: list[float]) -> None:
    np.testing.assert_allclose(task_scores(TABLE, [task]), [scores])


def test_no_prompts_have_no_scores() -> None:
    assert task_scores(TABLE, []).shape == (0, 2)


def world(num: int, noise: float, effect: float) -> tuple[np.ndarray, list[str]]:
    tasks = ["code", "math"] * num
    rewards = np.random.default_rng(3).normal(0, noise, size=(2 * num, 3))
    rewards[::2, 0] += effect
    rewards[1::2, 1] += effect
    return rewards, tasks


def test_each_task_gets_its_planted_teacher() -> None:
    table = task_means(*world(60, noise=0.3, effect=1.0))
    assert task_scores(table, ["code", "math"]).argmax(axis=1).tolist() == [0, 1]


def test_a_permuted_parallel_set_makes_the_same_scores() -> None:
    rewards, tasks = world(20, noise=0.5, effect=0.5)
    order = np.random.default_rng(1).permutation(len(tasks))
    shuffled = task_means(rewards[order], [tasks[place] for place in order])
    asked = ["math", "code", None]
    expected = task_scores(task_means(rewards, tasks), asked)
    np.testing.assert_allclose(task_scores(shuffled, asked), expected, atol=1e-9)


@pytest.mark.parametrize("num", [0, 3, 5])
def test_labels_that_do_not_fit_are_counted(num: int) -> None:
    with pytest.raises(DataError, match=f"{num} task labels for 4 prompts"):
        task_means(np.arange(8.0).reshape(4, 2) ** 2, ["code"] * num)
