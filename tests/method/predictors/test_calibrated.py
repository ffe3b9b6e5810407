"""Predictors on the scale of log-odds: what is claimed of pairs holds as often as it is claimed."""

import numpy as np
import pytest

from persyn_ray.method.bradley_terry import pair_outcomes, sigmoid
from persyn_ray.method.predictors.calibrated import calibrated, temperature_of
from persyn_ray.method.predictors.choose import LabelledRewards, left_out_scores
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import NEVER, fit_predictor


def parallel(num: int, seed: int, gap: float = 0.6) -> LabelledRewards:
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 4, num)
    rewards = gap * np.eye(4)[tasks] + rng.normal(0, 0.5, (num, 4))
    labels = tuple(f"task {task}" for task in tasks)
    ids, names = tuple(f"p{seed}-{n}" for n in range(num)), ("a", "b", "c", "d")
    return LabelledRewards(ids, names, PromptFeatures(labels), rewards, 0)


def test_claims_hold_as_often_as_they_are_made() -> None:
    known, asked = parallel(600, 0), parallel(3000, 1)
    plain = fit_predictor("per_task", known.features, known.rewards_NM)
    predictor = calibrated(plain, left_out_scores(known)["per_task"], known.rewards_NM)
    margins, won, _ = pair_outcomes(predictor.logits(asked.features), asked.rewards_NM)
    assert sigmoid(margins).mean() == pytest.approx(won.mean(), abs=0.03)
    far, near = margins > np.median(margins), margins <= np.median(margins)
    for part in (far, near):
        assert sigmoid(margins[part]).mean() == pytest.approx(won[part].mean(), abs=0.05)
    odds = np.exp(predictor.logits(asked.features))
    shares = odds / odds.sum(axis=1, keepdims=True)
    assert ((shares > 0) & (shares < 1)).all()


def test_the_order_of_teachers_stays() -> None:
    data = parallel(300, 0)
    plain = fit_predictor("per_task", data.features, data.rewards_NM)
    found = calibrated(plain, left_out_scores(data)["per_task"], data.rewards_NM)
    order = plain.scores(data.features).argsort(axis=1)
    np.testing.assert_array_equal(found.logits(data.features).argsort(axis=1), order)


def test_rewards_in_other_units_give_the_same_logits() -> None:
    data = parallel(300, 0)
    logits = []
    for factor in (1.0, 100.0):
        rewards = factor * data.rewards_NM
        scaled = LabelledRewards(data.ids, data.teachers, data.features, rewards, 0)
        plain = fit_predictor("per_task", data.features, rewards)
        found = calibrated(plain, left_out_scores(scaled)["per_task"], rewards)
        logits.append(found.logits(data.features))
    differences = [of - of.mean(axis=1, keepdims=True) for of in logits]
    np.testing.assert_allclose(*differences, rtol=1e-4, atol=1e-6)


def test_ties_leave_rewards_as_they_are_and_certainty_is_no_more_than_was_seen() -> None:
    scores = np.tile([1.0, 0.5], (9, 1))
    assert temperature_of(scores, np.ones((9, 2))) == 1.0
    always = np.tile([1.0, 0.0], (9, 1))
    assert sigmoid(np.array([0.5 / temperature_of(scores, always)])) == pytest.approx(10 / 11)


def test_a_teacher_without_a_reward_stays_below_all_others() -> None:
    data = parallel(100, 0)
    rewards = data.rewards_NM.copy()
    rewards[:, 2] = np.nan
    logits = fit_predictor("per_task", data.features, rewards).logits(data.features)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:, 2], logits[:, [0, 1, 3]].min(axis=1) - NEVER)
