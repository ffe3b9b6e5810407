"""Worlds drawn from planted probes: how far tasks differ, and how sure that is."""

import numpy as np
import pytest

from persyn_ray.method.predictors.choose import LabelledRewards
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.screening.gains import Growth, expected_growth
from persyn_ray.screening.worlds import LARGEST, NEVER, drawn_worlds

TEACHERS = ("a", "b", "c", "d")


def rewards(num: int, ratio: float, seed: int, num_tasks: int = 12) -> tuple[np.ndarray, list[str]]:
    """Normal rewards whose tasks differ by `ratio` times the variance within them."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, num_tasks, num)
    means = np.sqrt(ratio) * rng.normal(size=(num_tasks, 4))
    found = means[tasks] + rng.normal(size=(num, 4)) + 3 * rng.normal(size=(num, 1))
    return found, [f"task {task}" for task in tasks]


def drawn(num: int, ratio: float, seed: int = 0) -> np.ndarray:
    given, tasks = rewards(num, ratio, seed)
    return drawn_worlds(given, tasks, 500, np.random.default_rng(1)).ratio_R


def growth(rewards_NM: np.ndarray, tasks: list[str], worth: float = 0.01) -> Growth:
    data = LabelledRewards(
        tuple(f"p{n}" for n in range(len(tasks))),
        TEACHERS[: rewards_NM.shape[1]],
        PromptFeatures(tuple(tasks)),
        rewards_NM,
        0,
    )
    (found,) = expected_growth([data], [2500], worth)
    return found


@pytest.mark.parametrize("ratio", [0.02, 0.2])
def test_many_prompts_say_how_far_tasks_differ(ratio: float) -> None:
    found = [np.median(drawn(4000, ratio, seed)) for seed in range(6)]
    assert 0.6 * ratio < np.median(found) < 1.7 * ratio


def test_few_prompts_leave_it_open_and_no_difference_is_found_to_be_small() -> None:
    assert np.quantile(drawn(60, 0.1), 0.9) > 5 * max(np.quantile(drawn(60, 0.1), 0.1), 1e-4)
    assert np.quantile(drawn(4000, 0.0), 0.8) < 0.005
    assert drawn(60, 0.0).max() <= LARGEST


def test_means_of_tasks_are_drawn_around_the_true_ones() -> None:
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 3, 3000)
    truth = np.array([[0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0.5, 0]])
    given = truth[tasks] + rng.normal(0, 0.5, (3000, 4))
    found = drawn_worlds(given, [f"task {t}" for t in tasks], 300, rng)
    centred = found.true_RKM - found.true_RKM.mean(axis=2, keepdims=True)
    expected = truth - truth.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred.mean(axis=0), expected, atol=0.05)
    assert found.share_K.sum() == pytest.approx(1)


def test_a_teacher_without_rewards_is_never_best() -> None:
    given, tasks = rewards(200, 0.2, 0)
    given[:, 2] = np.nan
    found = drawn_worlds(given, tasks, 50, np.random.default_rng(0))
    assert (found.true_RKM[:, :, 2] == NEVER).all()
    assert (found.true_RKM.argmax(axis=2) != 2).all()
    assert np.isfinite(growth(given, tasks).gain.mean)


def test_one_task_or_none_has_no_gain() -> None:
    given, _ = rewards(100, 0.2, 0)
    assert growth(given, ["only"] * 100).gain.mean == pytest.approx(0.0, abs=1e-9)


def test_teachers_who_differ_only_below_the_best_leave_no_gain() -> None:
    """Tasks differ much, but one teacher is never below another: normal worlds alone say yes."""
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 30, 400)
    below = rng.uniform(0.0, 0.8, 30)[tasks]
    chance = np.stack([np.full(400, 0.95), 0.95 - below], axis=1)
    given = (rng.random((400, 2)) < chance).astype(float)
    assert growth(given, [f"task {task}" for task in tasks]).chance < 0.3


def test_divisions_that_disagree_count_alike() -> None:
    given, tasks = rewards(400, 1.0, 0)
    mixed = np.random.default_rng(1).permutation(tasks).tolist()
    one, other = (
        LabelledRewards(
            tuple(f"p{n}" for n in range(400)), TEACHERS, PromptFeatures(tuple(of)), given, 0
        )
        for of in (tasks, mixed)
    )
    (sure,), (none,), (both,) = (
        expected_growth(divisions, [2500], 0.01) for divisions in ([one], [other], [one, other])
    )
    assert sure.chance > 0.95
    assert none.chance < 0.2
    assert abs(both.chance - (sure.chance + none.chance) / 2) < 0.05
    assert none.gain.low <= both.gain.low < both.gain.mean < both.gain.high <= sure.gain.high + 0.05


def test_the_same_probe_gives_the_same_answer_and_a_larger_one_a_narrower() -> None:
    few, many = (rewards(num, 0.1, 3) for num in (100, 3000))
    assert growth(*few) == growth(*few)
    widths = [of.gain.high - of.gain.low for of in (growth(*few), growth(*many))]
    assert widths[1] < widths[0]
