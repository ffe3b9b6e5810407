"""Effects of teachers, prompts and both: planted ones come back, whatever is missing."""

import numpy as np
import pytest

from persyn_ray.errors import DataError
from persyn_ray.method.predictors.effects import (
    effects_of,
    oracle_gain,
    task_variance,
    variance_shares,
)


def planted(num: int = 400, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Rewards of three teachers on four tasks: prompt + teacher + task times teacher + noise."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 4, num)
    of_task = np.array([[0.3, -0.3, 0.0], [-0.3, 0.3, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    rewards = rng.normal(0, 1, (num, 1)) + np.array([0.1, 0.2, 0.3]) + of_task[tasks]
    return rewards + noise * rng.normal(size=rewards.shape), [f"task {task}" for task in tasks]


def test_whole_rewards_give_the_usual_two_way_decomposition() -> None:
    rewards, _ = planted(noise=0.5)
    found = effects_of(rewards)
    by_hand = rewards - rewards.mean(1, keepdims=True) - rewards.mean(0) + rewards.mean()
    np.testing.assert_allclose(found.teacher_M, rewards.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(found.interaction_NM, by_hand, atol=1e-8)


def test_a_teacher_asked_only_hard_prompts_is_not_thought_worse() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.normal(size=(300, 1))
    rewards = difficulty + np.array([0.0, 0.2, 0.4])
    rewards[difficulty[:, 0] > 0, 2] = np.nan  # the best one knows the hard half alone
    found = effects_of(rewards)
    np.testing.assert_allclose(np.diff(found.teacher_M), [0.2, 0.2], atol=1e-3)
    assert np.isnan(found.interaction_NM[difficulty[:, 0] > 0, 2]).all()


def test_an_unknown_teacher_and_an_unknown_prompt_stay_unknown() -> None:
    rewards = np.array([[1.0, 0.0, np.nan], [0.0, 1.0, np.nan], [np.nan] * 3])
    found = effects_of(rewards)
    assert np.isnan(found.teacher_M[2])
    assert np.isnan(found.prompt_N[2])
    np.testing.assert_allclose(found.teacher_M[:2], 0.5)


def test_shares_sum_to_one_and_tell_what_was_planted() -> None:
    rewards, tasks = planted(4000, noise=0.2)
    found = variance_shares(rewards, tasks)
    assert found.teacher + found.prompt + found.interaction == pytest.approx(1)
    assert found.prompt > 0.9
    # Planted: interactions of 0.3 on four of twelve cells, less what the means of rows take.
    assert found.task_interaction < found.interaction
    assert found.task_interaction == pytest.approx(0.09 * 4 / 12 / rewards.var(), rel=0.15)


def test_labels_that_mean_nothing_explain_nothing() -> None:
    rewards, _ = planted(noise=1.0)
    labels = [f"label {n}" for n in np.random.default_rng(3).integers(0, 40, len(rewards))]
    shares = [
        task_variance(effects_of(planted(noise=1.0, seed=seed)[0]).interaction_NM, labels).between
        for seed in range(30)
    ]
    assert np.mean(shares) < 0.01  # of a variance of 1 by 2/3 within


def test_values_that_do_not_vary_have_no_shares() -> None:
    assert np.isnan(variance_shares(np.ones((5, 3)), ["a"] * 5).teacher)


@pytest.mark.parametrize("bad", [np.full((3, 2), np.nan), np.ones(3)])
def test_rewards_without_a_known_value_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="known"):
        effects_of(bad)


def test_the_oracle_gains_what_the_best_of_each_prompt_is_above_the_best_of_all() -> None:
    values = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, np.nan]])
    assert oracle_gain(values) == pytest.approx(1 / 4)
    assert oracle_gain(np.ones((5, 3))) == 0.0
    with pytest.raises(DataError, match="known"):
        oracle_gain(np.full((2, 2), np.nan))
