"""Calibration: against plain loops and Bradley-Terry, planted temperatures, coverage, limits."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.bradley_terry import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    negative_log_likelihood,
    pair_outcomes,
)
from persyn_ray.method.metrics import pairwise_accuracy
from persyn_ray.method.preferences import preferences
from persyn_ray.statistics.calibration import (
    accuracy_interval,
    calibration,
    cross_fitted_ece,
    cross_fitted_temperatures,
    expected_calibration_error,
)

VALUES = st.sampled_from([0.0, 1.0, 2.0, np.nan])
TABLES = arrays(np.float64, (3, 4), elements=VALUES)


def world(num_prompts, num_teachers=6, temperature=1.0, seed=0):
    """Logits and rewards for which sigmoid(margin / temperature) is exactly right."""
    rng = np.random.default_rng(seed)
    worth_PM = rng.normal(size=(num_prompts, num_teachers))
    # Differences of Gumbel noise are logistic: Bradley-Terry holds as it stands.
    return worth_PM * temperature, worth_PM + rng.gumbel(size=worth_PM.shape)


def sigmoid(margins):
    return 1 / (1 + np.exp(-margins))


@given(TABLES, TABLES)
def test_pairs_equal_a_plain_loop(logits_PM, rewards_PM):
    expected = []
    for row, (logits, rewards) in enumerate(zip(logits_PM, rewards_PM, strict=True)):
        for i, j in combinations(range(4), 2):
            if np.isnan([logits[i], logits[j], rewards[i], rewards[j]]).any():
                continue
            if rewards[i] == rewards[j]:
                continue
            better, worse = (i, j) if rewards[i] > rewards[j] else (j, i)
            margin = logits[better] - logits[worse]
            expected.append((row, abs(margin), 0.5 if margin == 0 else float(margin > 0)))
    margins_N, won_N, prompt_row_N = pair_outcomes(logits_PM, rewards_PM)
    assert sorted(zip(prompt_row_N, margins_N, won_N, strict=True)) == sorted(expected)
    assert (np.diff(prompt_row_N) >= 0).all()
    assert won_N.sum() == pairwise_accuracy(logits_PM, rewards_PM)[0].sum()


def test_error_by_hand():
    value, table = expected_calibration_error([0.5, 0.5, 0.9, 0.9], [1, 0, 1, 0], num_bins=2)
    np.testing.assert_array_equal(table.confidence_B, [0.5, 0.9])
    np.testing.assert_array_equal(table.accuracy_B, [0.5, 0.5])
    np.testing.assert_array_equal(table.count_B, [2, 2])
    assert value == pytest.approx(0.2)


@given(
    arrays(np.float64, 40, elements=st.sampled_from([0.5, 0.6, 0.61, 0.7, 0.95, 1.0])),
    arrays(np.float64, 40, elements=st.sampled_from([0.0, 0.5, 1.0])),
    st.integers(1, 20),
)
def test_error_equals_a_plain_loop_over_bins(claimed_N, won_N, num_bins):
    value, table = expected_calibration_error(claimed_N, won_N, num_bins)
    edges = {np.quantile(claimed_N, k / num_bins) for k in range(1, num_bins)}
    bins = {}
    for claimed, won in zip(claimed_N, won_N, strict=True):
        bins.setdefault(sum(edge <= claimed for edge in edges), []).append((claimed, won))
    means = [(len(of), *np.mean(of, axis=0)) for _, of in sorted(bins.items())]
    expected = sum(count * abs(claimed - won) for count, claimed, won in means) / 40
    assert value == pytest.approx(expected)
    np.testing.assert_allclose(
        np.column_stack([table.count_B, table.confidence_B, table.accuracy_B]), means
    )
    # Equal claims share a bin, whatever their order.
    order_N = np.random.default_rng(0).permutation(40)
    again, _ = expected_calibration_error(claimed_N[order_N], won_N[order_N], num_bins)
    assert again == pytest.approx(value)


def test_bins_hold_equally_many_distinct_claims():
    claimed_N = 0.5 + 0.5 * np.random.default_rng(0).random(3000) ** 4
    _, table = expected_calibration_error(claimed_N, np.ones(3000), num_bins=15)
    np.testing.assert_array_equal(table.count_B, np.full(15, 200))
    assert (np.diff(table.confidence_B) > 0).all()


def test_error_limits():
    assert expected_calibration_error([1.0] * 9, [0.0] * 9)[0] == 1
    assert expected_calibration_error([1.0] * 9, [1.0] * 9)[0] == 0
    nothing, table = expected_calibration_error([], [])
    assert np.isnan(nothing)
    assert table.count_B.size == 0
    # Fewer bins can only hide differences of opposite sign, never add to them.
    claimed_N, won_N = np.array([0.5, 0.7, 0.8, 0.9]), np.array([1.0, 0.0, 1.0, 1.0])
    few, many = (expected_calibration_error(claimed_N, won_N, n)[0] for n in (1, 4))
    assert few == pytest.approx(0.025)
    assert many == pytest.approx((0.5 + 0.7 + 0.2 + 0.1) / 4)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_a_planted_temperature_is_found(temperature):
    logits_PM, rewards_PM = world(1500, temperature=temperature)
    assert fit_temperature(logits_PM, rewards_PM) == pytest.approx(temperature, rel=0.06)


def test_temperature_equals_another_minimiser():
    logits_PM, rewards_PM = world(60, temperature=2.0)
    rewards_PM[::5, 1] = np.nan
    wins_PMM = preferences(rewards_PM)

    def loss(log_temperature):
        return negative_log_likelihood(logits_PM / np.exp(log_temperature), wins_PMM)

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits_PM, rewards_PM) == pytest.approx(np.exp(found.x), rel=1e-5)


def test_temperature_follows_the_scale_and_no_shift():
    logits_PM, rewards_PM = world(60)
    temperature = fit_temperature(logits_PM, rewards_PM)
    assert fit_temperature(8 * logits_PM, rewards_PM) == pytest.approx(8 * temperature)
    shifted_PM = logits_PM + np.arange(60.0)[:, None]
    assert fit_temperature(shifted_PM, rewards_PM) == pytest.approx(temperature)
    order_M = [3, 1, 5, 0, 2, 4]
    permuted = fit_temperature(logits_PM[:, order_M], rewards_PM[:, order_M])
    assert permuted == pytest.approx(temperature)


def test_temperature_at_its_bounds():
    logits_PM, _ = world(30)
    assert fit_temperature(logits_PM, logits_PM) == MIN_TEMPERATURE
    assert fit_temperature(logits_PM, -logits_PM) == MAX_TEMPERATURE
    assert fit_temperature(np.zeros((30, 6)), logits_PM) == 1
    assert np.isnan(fit_temperature(logits_PM, np.zeros((30, 6))))
    assert np.isfinite(calibration(logits_PM, -logits_PM, MIN_TEMPERATURE, 0).nll)


def test_calibration_joins_its_parts():
    logits_PM, rewards_PM = world(80, temperature=2.0)
    rewards_PM[3] = np.nan
    found = calibration(logits_PM, rewards_PM, 1.5, seed=0, num_bins=10)
    margins_N, won_N, _ = pair_outcomes(logits_PM, rewards_PM)
    value, table = expected_calibration_error(sigmoid(margins_N / 1.5), won_N, 10)
    assert found.ece.mean == pytest.approx(value)
    np.testing.assert_array_equal(found.table.count_B, table.count_B)
    np.testing.assert_allclose(found.table.confidence_B, table.confidence_B)
    expected = negative_log_likelihood(logits_PM / 1.5, preferences(rewards_PM))
    assert found.nll == pytest.approx(expected)
    assert found.ece.num == 79
    assert 0 <= found.ece.low <= found.ece.mean <= found.ece.high <= 1


def test_interval_equals_a_plain_loop_over_resamples():
    logits_PM, rewards_PM = world(40, temperature=3.0)
    margins_N, won_N, prompt_row_N = pair_outcomes(logits_PM, rewards_PM)
    claimed_N = sigmoid(margins_N)
    edges = np.quantile(claimed_N, [0.2, 0.4, 0.6, 0.8])
    bin_N = (claimed_N[:, None] >= edges).sum(axis=1)
    rng = np.random.default_rng(1)
    errors, noises = [], []
    centre = np.array([(claimed_N - won_N)[bin_N == b].sum() for b in range(5)]) / len(claimed_N)
    for _ in range(600):
        drawn = np.concatenate(
            [np.flatnonzero(prompt_row_N == row) for row in rng.integers(0, 40, 40)]
        )
        gaps_N, bins_N = (claimed_N - won_N)[drawn], bin_N[drawn]
        gaps = np.array([gaps_N[bins_N == b].sum() for b in range(5)]) / len(drawn)
        errors.append(np.abs(gaps).sum())
        noises.append(np.abs(gaps - centre).sum())
    found = calibration(logits_PM, rewards_PM, 1.0, seed=0, num_bins=5)
    low, high = 2 * found.ece.mean - np.quantile(errors, [0.975, 0.025])
    assert (found.ece.low, found.ece.high) == pytest.approx((low, high), abs=0.01)
    assert found.noise == pytest.approx(np.mean(noises), rel=0.05)


def test_intervals_hold_the_truth_as_often_as_told():
    margins = np.abs(np.random.default_rng(0).normal(0, np.sqrt(2), 200_000))
    for temperature in (1.0, 2.0):
        truth = np.abs(sigmoid(margins * temperature) - sigmoid(margins)).mean()
        found = [
            calibration(*world(100, temperature=temperature, seed=seed), 1.0, seed, 15, 200).ece
            for seed in range(60)
        ]
        assert 0.82 < np.mean([ece.low <= truth <= ece.high for ece in found]) <= 1


def test_noise_is_the_error_of_a_calibrated_router():
    found = [calibration(*world(100, seed=seed), 1.0, seed, 15, 200) for seed in range(40)]
    errors = np.mean([one.ece.mean for one in found])
    assert errors > 0.02
    # Resamples are noisier still; in some of these worlds nearly all of them lie above the value.
    assert all(one.ece.low <= one.ece.mean <= one.ece.high for one in found)
    assert np.mean([one.noise for one in found]) == pytest.approx(errors, rel=0.1)


def test_scaling_helps_and_is_judged_on_other_prompts():
    logits_PM, rewards_PM = world(300, temperature=3.0)
    fold_P = np.arange(300) % 2
    plain = calibration(logits_PM, rewards_PM, 1.0, seed=0)
    fitted = calibration(logits_PM, rewards_PM, fit_temperature(logits_PM, rewards_PM), seed=0)
    crossed = cross_fitted_ece(logits_PM, rewards_PM, fold_P, seed=0)
    assert plain.ece.low > crossed.ece.high
    assert crossed.ece.low == 0
    # On the prompts it was fitted to, one temperature has the least loss there is.
    assert fitted.nll < plain.nll
    temperature_P = cross_fitted_temperatures(logits_PM, rewards_PM, fold_P)
    for fold in (0, 1):
        other = fold_P != fold
        expected = fit_temperature(logits_PM[other], rewards_PM[other])
        np.testing.assert_array_equal(temperature_P[fold_P == fold], expected)
    scaled_PM = logits_PM / temperature_P[:, None]
    assert crossed.nll == pytest.approx(negative_log_likelihood(scaled_PM, preferences(rewards_PM)))


def test_cross_fitting_does_not_flatter():
    """With few prompts a fitted temperature looks better on its own prompts than on others."""
    own, others = [], []
    for seed in range(40):
        logits_PM, rewards_PM = world(12, num_teachers=3, temperature=2.0, seed=seed)
        temperature = fit_temperature(logits_PM, rewards_PM)
        own.append(calibration(logits_PM, rewards_PM, temperature, 0, 5, 10).nll)
        crossed = cross_fitted_ece(logits_PM, rewards_PM, np.arange(12) < 6, 0, 5, 10)
        others.append(crossed.nll)
    assert np.mean(own) < np.mean(others)


def test_a_fold_that_says_nothing_leaves_the_other_unjudged():
    logits_PM, rewards_PM = world(20)
    fold_P = np.repeat(["a", "b"], 10)
    rewards_PM[:10] = 0.5
    crossed = cross_fitted_ece(logits_PM, rewards_PM, fold_P, seed=0)
    assert crossed.ece.num == 0
    assert np.isnan([crossed.ece.mean, crossed.noise, crossed.nll]).all()
    temperature_P = cross_fitted_temperatures(logits_PM, rewards_PM, fold_P)
    np.testing.assert_array_equal(np.isnan(temperature_P), fold_P == "b")


def test_accuracy_is_a_ratio_over_prompts():
    logits_PM, rewards_PM = world(150)
    rewards_PM[:75, 2:] = np.nan  # one pair each; the others have fifteen
    correct_P, pairs_P = pairwise_accuracy(logits_PM, rewards_PM)
    found = accuracy_interval(logits_PM, rewards_PM, seed=0)
    assert found.mean == pytest.approx(correct_P.sum() / pairs_P.sum())
    assert found.num == 150
    # The linearised ratio: residuals of the prompts, over the mean number of pairs.
    residual_P = (correct_P - found.mean * pairs_P) / pairs_P.mean()
    half = 1.96 * residual_P.std(ddof=1) / np.sqrt(150)
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=0.006
    )


def test_accuracy_limits():
    logits_PM, rewards_PM = world(20)
    sure = accuracy_interval(rewards_PM, rewards_PM, seed=0)
    assert (sure.mean, sure.low, sure.high) == (1, 1, 1)
    coin = accuracy_interval(np.zeros((20, 6)), rewards_PM, seed=0)
    assert (coin.mean, coin.low, coin.high) == (0.5, 0.5, 0.5)
    nothing = accuracy_interval(logits_PM, np.zeros((20, 6)), seed=0)
    assert nothing.num == 0
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_intervals_ignore_the_order_of_prompts_and_prompts_without_pairs():
    logits_PM, rewards_PM = world(50)
    order_P = np.random.default_rng(1).permutation(50)
    more_PM, more_rewards_PM = (
        np.vstack([values_PM[order_P], np.zeros((3, 6))]) for values_PM in world(50)
    )
    again = accuracy_interval(more_PM, more_rewards_PM, seed=0)
    assert again == accuracy_interval(logits_PM, rewards_PM, seed=0)
    one = calibration(logits_PM, rewards_PM, 1.0, 0)
    other = calibration(more_PM, more_rewards_PM, 1.0, 0)
    assert (one.ece.low, one.ece.high) == pytest.approx((other.ece.low, other.ece.high))
    assert one.ece.num == other.ece.num == 50
    assert accuracy_interval(logits_PM, rewards_PM, 1) != accuracy_interval(
        logits_PM, rewards_PM, 2
    )


def test_many_prompts_are_resampled_in_pieces():
    # 400,000 weights a resample of which a million are held: three pieces.
    scores_PM = np.tile([0.0, 1.0], (400_000, 1))
    rewards_PM = np.tile([[0.0, 1.0], [1.0, 0.0]], (200_000, 1))
    found = accuracy_interval(scores_PM, rewards_PM, seed=0, num_resamples=5)
    assert found.low <= 0.5 <= found.high
    assert 0 < found.high - found.low < 0.01


def test_misuse_is_refused():
    logits_PM, rewards_PM = world(4)
    for temperature in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="temperature is"):
            calibration(logits_PM, rewards_PM, temperature, 0)
    with pytest.raises(ConfigError, match="num_bins is 0"):
        expected_calibration_error([0.5], [1.0], 0)
    with pytest.raises(ConfigError, match="level is 95"):
        calibration(logits_PM, rewards_PM, 1.0, 0, level=95)
    with pytest.raises(ConfigError, match="num_resamples is 0"):
        accuracy_interval(logits_PM, rewards_PM, 0, num_resamples=0)
    with pytest.raises(DataError, match="one shape"):
        pair_outcomes(logits_PM, rewards_PM[:, :2])
    with pytest.raises(DataError, match="Probabilities must be known and from 0 to 1"):
        expected_calibration_error([1.5], [1.0])
    with pytest.raises(DataError, match="Outcomes must be known"):
        expected_calibration_error([0.5], [np.nan])
    with pytest.raises(DataError, match="do not fit 4 prompts"):
        cross_fitted_ece(logits_PM, rewards_PM, [0, 1], 0)
    with pytest.raises(DataError, match="1 fold"):
        cross_fitted_ece(logits_PM, rewards_PM, [0, 0, 0, 0], 0)
