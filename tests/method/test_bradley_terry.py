"""Bradley-Terry: the textbook example, an unrelated fitting method, limits, invariances."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from persyn_ray.errors import DataError
from persyn_ray.method.bradley_terry import negative_log_likelihood, pair_probabilities, ratings
from persyn_ray.method.preferences import preferences

LOGITS = arrays(np.float64, (3, 4), elements=st.floats(-50, 50))

# Wins of A, B, C, D over one another in the worked example of the encyclopedia's article.
TEXTBOOK_MM = np.array([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]], dtype=float)


def zermelo(wins_MM, rounds=5000):
    """Strengths by the fixed-point iteration of 1929; shares nothing with a gradient method."""
    strength_M = np.ones(len(wins_MM))
    games_MM = wins_MM + wins_MM.T
    for _ in range(rounds):
        sums_MM = strength_M[:, None] + strength_M
        strength_M = wins_MM.sum(axis=1) / (games_MM / sums_MM).sum(axis=1)
        strength_M /= np.exp(np.log(strength_M).mean())
    return np.log(strength_M)


def test_the_textbook_example():
    strength_M = np.exp(ratings(TEXTBOOK_MM))
    np.testing.assert_allclose(strength_M, [0.640, 1.043, 0.660, 2.270], atol=5e-4)
    np.testing.assert_allclose(
        strength_M / strength_M.sum(), [0.139, 0.226, 0.143, 0.492], atol=5e-4
    )


def test_two_unrelated_methods_agree():
    np.testing.assert_allclose(ratings(TEXTBOOK_MM, l2=0), zermelo(TEXTBOOK_MM), atol=1e-6)
    wins_MM = np.random.default_rng(3).integers(1, 40, size=(19, 19)).astype(float)
    np.fill_diagonal(wins_MM, 0)
    np.testing.assert_allclose(ratings(wins_MM, l2=0), zermelo(wins_MM), atol=1e-6)


def test_two_teachers_have_the_log_odds():
    found_M = ratings([[0.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(found_M, [log(3) / 2, -log(3) / 2], atol=1e-5)


def test_planted_ratings_are_found_again():
    rng = np.random.default_rng(5)
    truth_M = np.linspace(-1.5, 1.5, 8)
    rewards_PM = truth_M + rng.gumbel(size=(4000, 8))  # a difference of Gumbels is logistic
    found_M = ratings(preferences(rewards_PM).sum(axis=0))
    np.testing.assert_allclose(found_M, truth_M, atol=0.1)


def test_a_teacher_that_never_lost_stays_finite_and_one_that_met_nobody_is_unknown():
    found_M = ratings([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.isfinite(found_M[:2]).all()
    assert found_M[0] > found_M[1] + 5
    assert np.isnan(found_M[2])
    assert np.isnan(ratings(np.zeros((3, 3)))).all()


def test_ratings_are_centred_and_follow_the_pool():
    order_M = [2, 0, 3, 1]
    found_M = ratings(TEXTBOOK_MM)
    assert abs(found_M.mean()) < 1e-12
    permuted_M = ratings(TEXTBOOK_MM[np.ix_(order_M, order_M)])
    np.testing.assert_allclose(permuted_M, found_M[order_M], atol=1e-6)
    np.testing.assert_allclose(ratings(10 * TEXTBOOK_MM), found_M, atol=1e-6)
    np.testing.assert_allclose(ratings(TEXTBOOK_MM + 9 * np.eye(4)), found_M, atol=1e-6)


@given(LOGITS)
def test_probabilities_equal_the_softmax_of_two(logits_PM):
    found_PMM = pair_probabilities(logits_PM)
    for p, row in enumerate(logits_PM):
        for i, mine in enumerate(row):
            for j, theirs in enumerate(row):
                high = max(mine, theirs)
                expected = exp(mine - high) / (exp(mine - high) + exp(theirs - high))
                assert found_PMM[p, i, j] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found_PMM + found_PMM.transpose(0, 2, 1), 1.0, rtol=1e-12)


@given(LOGITS, st.floats(-20, 20))
def test_a_constant_added_to_a_prompts_logits_changes_nothing(logits_PM, constant):
    wins_PMM = preferences(np.arange(12.0).reshape(3, 4) % 5, "half")
    np.testing.assert_allclose(
        negative_log_likelihood(logits_PM + constant, wins_PMM),
        negative_log_likelihood(logits_PM, wins_PMM),
        rtol=1e-9,
        atol=1e-11,
    )


def test_loss_equals_the_mean_over_listed_pairs():
    rng = np.random.default_rng(7)
    logits_PM = rng.normal(size=(6, 5))
    rewards_PM = np.where(rng.random((6, 5)) < 0.2, np.nan, rng.integers(0, 4, (6, 5)))
    losses = [
        -log(1 / (1 + exp(logits[j] - logits[i])))
        for logits, rewards in zip(logits_PM, rewards_PM, strict=True)
        for i in range(5)
        for j in range(5)
        if rewards[i] > rewards[j]
    ]
    found = negative_log_likelihood(logits_PM, preferences(rewards_PM))
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_a_tie_costs_least_at_equal_logits():
    wins_PMM = preferences([[0.5, 0.5]], "half")
    assert negative_log_likelihood([[3.0, 3.0]], wins_PMM) == pytest.approx(log(2))
    assert negative_log_likelihood([[3.0, 2.0]], wins_PMM) > log(2)


def test_margins_of_a_thousand_are_exact():
    logits_PM = [[1000.0, 0.0]]
    assert negative_log_likelihood(logits_PM, [[[0, 1], [0, 0]]]) == 0.0
    assert negative_log_likelihood(logits_PM, [[[0, 0], [1, 0]]]) == 1000.0
    np.testing.assert_array_equal(pair_probabilities(logits_PM), [[[0.5, 1.0], [0.0, 0.5]]])


def test_unknown_logits_matter_only_inside_pairs():
    wins_PMM = preferences([[1.0, 0.0, np.nan]])
    assert negative_log_likelihood([[0.0, 0.0, np.nan]], wins_PMM) == pytest.approx(log(2))
    with pytest.raises(DataError, match="NaN logit"):
        negative_log_likelihood([[0.0, np.nan, 0.0]], wins_PMM)


def test_no_pair_has_no_loss():
    assert np.isnan(negative_log_likelihood([[1.0, 2.0]], np.zeros((1, 2, 2))))


def test_misuse_is_refused():
    with pytest.raises(DataError, match="make pairs"):
        negative_log_likelihood([[1.0, 2.0]], np.zeros((1, 3, 3)))
    with pytest.raises(DataError, match="0 or more"):
        ratings([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(DataError, match="teachers by teachers"):
        ratings([[0.0, 1.0]])
