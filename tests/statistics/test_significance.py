"""Comparisons: by enumeration, against scipy and plain loops, under the null, at the limits."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, spearmanr, ttest_1samp

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.statistics import significance
from persyn_ray.statistics.intervals import bootstrap_mean
from persyn_ray.statistics.significance import (
    holm,
    mean_over_seeds,
    paired_difference,
    rank_correlation,
    rank_correlation_over_seeds,
    resampling_weights,
)

ZERO = np.zeros


def table(num_seeds, num_problems, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, (num_seeds, num_problems))


def all_draws(values_SP):
    """Mean of every one of the S^S P^P equally likely resamples that meets a known value."""
    rows, columns = (range(size) for size in values_SP.shape)
    means = []
    for picked_rows in product(rows, repeat=len(rows)):
        for picked_columns in product(columns, repeat=len(columns)):
            drawn = [values_SP[s, p] for s in picked_rows for p in picked_columns]
            known = [value for value in drawn if not np.isnan(value)]
            if known:
                means.append(sum(known) / len(known))
    return np.array(means)


def over_seeds(d_SP):
    """scipy's own t-test over the seeds' means: bounds and p-value; a single seed has none."""
    if len(d_SP) < 2:
        return np.inf, -np.inf, 0.0
    found: Any = ttest_1samp(np.nanmean(d_SP, axis=1), 0)
    return *found.confidence_interval(0.95), found.pvalue


@pytest.mark.parametrize(
    "d_SP",
    [
        [[1.0, -1.0, 3.0], [2.0, -4.0, 1.0]],
        [[1.0, np.nan, -2.0], [np.nan, 4.0, 1.0]],
        [[3.0, np.nan], [np.nan, -1.0]],
        [[1.0, -2.0, 4.0, 1.0]],
        [[2.0], [-1.0], [3.0]],
    ],
)
def test_differences_equal_enumeration_of_all_draws(d_SP):
    d_SP = np.array(d_SP)
    means = all_draws(d_SP)
    found = paired_difference(d_SP, ZERO(d_SP.shape), seed=0, num_resamples=20_000)
    assert found.mean == pytest.approx(np.nanmean(d_SP))
    exact = min(1.0, 2 * min((means <= 0).mean(), (means >= 0).mean()))
    seeds_low, seeds_high, seeds_p = over_seeds(d_SP)
    assert found.p_value == pytest.approx(max(exact, seeds_p), abs=0.02)
    # Quantiles of so few distinct means may lie to either side of a step.
    lows = np.quantile(means, [0.015, 0.035], method="inverted_cdf").clip(max=seeds_low)
    highs = np.quantile(means, [0.965, 0.985], method="inverted_cdf").clip(min=seeds_high)
    assert lows[0] - 1e-9 <= found.low <= lows[1] + 1e-9
    assert highs[0] - 1e-9 <= found.high <= highs[1] + 1e-9
    assert (found.num_seeds, found.num_problems) == d_SP.shape


def test_two_way_draws_equal_a_plain_loop():
    values_SP = table(4, 30, shift=0.3) + table(1, 30, 1) + table(4, 1, 2)
    values_SP[0, :9] = np.nan
    rng = np.random.default_rng(3)
    means = []
    for _ in range(2500):
        rows, columns = rng.integers(0, 4, 4), rng.integers(0, 30, 30)
        means.append(np.nanmean(values_SP[np.ix_(rows, columns)]))
    found = mean_over_seeds(values_SP, seed=0)
    assert found.mean == np.nanmean(values_SP)
    low, high = np.quantile(means, [0.025, 0.975])
    seeds_low, seeds_high, _ = over_seeds(values_SP)
    expected = min(low, seeds_low), max(high, seeds_high)
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.04)
    assert found.num == 111


def test_one_seed_agrees_with_scipy():
    a_1P, b_1P = table(1, 80, 1, shift=0.4), table(1, 80, 2)
    d_P = (a_1P - b_1P)[0]
    scipys = bootstrap((d_P,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    found = paired_difference(a_1P, b_1P, seed=0)
    low, high = scipys.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    below = (scipys.bootstrap_distribution <= 0).mean()
    assert found.p_value == pytest.approx(2 * min(below, 1 - below), abs=0.015)
    assert 0.01 < found.p_value < 0.2
    assert found.num_seeds == 1
    ours = bootstrap_mean(d_P, seed=0, num_resamples=10_000)
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high), abs=0.02)


def rate_of_claims(num_seeds, num_problems, seeds, problems, noise):
    """How often p < 0.05, and how often the interval misses 0, with no difference to be found."""
    rng = np.random.default_rng(0)
    claims = misses = 0
    for trial in range(300):
        d_SP = (
            seeds * rng.normal(size=(num_seeds, 1))
            + problems * rng.normal(size=(1, num_problems))
            + noise * rng.normal(size=(num_seeds, num_problems))
        )
        found = paired_difference(d_SP, ZERO(d_SP.shape), trial, num_resamples=200)
        claims += found.p_value < 0.05
        misses += not found.low <= 0 <= found.high
    return claims / 300, misses / 300


def test_false_claims_are_as_rare_as_told():
    for rate in rate_of_claims(1, 100, 0, 1, 1):
        assert 0.02 < rate < 0.10
    for rate in rate_of_claims(5, 40, 0, 1, 1):
        assert 0.005 < rate < 0.08
    for rate in rate_of_claims(5, 40, 0, 0, 1):
        assert rate < 0.03


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_a_few_seeds_that_differ_much_are_not_trusted(num_seeds):
    for rate in rate_of_claims(num_seeds, 20, 1, 0, 0.5):
        assert 0.02 < rate < 0.09


def test_the_more_doubtful_of_bootstrap_and_seeds_counts():
    """Problems that differ much leave the bootstrap's, seeds that differ much leave Student's."""
    rng = np.random.default_rng(5)
    for scale_seeds, scale_problems, by_seeds in ((1.0, 0.1, True), (0.01, 2.0, False)):
        d_SP = scale_seeds * rng.normal(size=(4, 1)) + scale_problems * rng.normal(size=(1, 60))
        found = paired_difference(d_SP + 0.2, ZERO(d_SP.shape), seed=0)
        low, high, p_value = over_seeds(d_SP + 0.2)
        inside = found.low < low < high < found.high
        if by_seeds:
            assert (found.low, found.high, found.p_value) == pytest.approx((low, high, p_value))
        else:
            assert inside
            assert found.p_value > p_value
    mean = mean_over_seeds(d_SP + 0.2, seed=0)
    assert (mean.low, mean.high) == (found.low, found.high)


def test_seeds_that_disagree_widen_the_interval():
    row_P = table(1, 200, shift=0.3)
    agreeing_SP = np.tile(row_P, (4, 1))
    found = paired_difference(agreeing_SP, ZERO((4, 200)), seed=0)
    alone = paired_difference(row_P, ZERO((1, 200)), seed=0)
    # Copies of a seed teach nothing: the same interval, not one of half the width.
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    offsets_S1 = np.array([[-0.5], [0.5], [-0.4], [0.4]])
    differing = paired_difference(agreeing_SP + offsets_S1, ZERO((4, 200)), seed=0)
    assert differing.mean == pytest.approx(found.mean)
    assert differing.high - differing.low > 1.5 * (found.high - found.low)
    assert differing.p_value > found.p_value


def test_equal_methods_have_p_1_and_clear_winners_the_smallest_there_is():
    a_SP = (table(3, 50) > 0).astype(float)
    same = paired_difference(a_SP, a_SP, seed=0)
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    better = paired_difference(a_SP + 0.1, a_SP, seed=0, num_resamples=999)
    assert better.p_value == pytest.approx(2 / 1000)
    assert (better.low, better.high) == pytest.approx((0.1, 0.1))


def test_turning_the_comparison_round_mirrors_it():
    a_SP, b_SP = table(3, 40, 1, shift=0.2), table(3, 40, 2)
    one, other = paired_difference(a_SP, b_SP, 5), paired_difference(b_SP, a_SP, 5)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert one.p_value == other.p_value < 1
    assert paired_difference(a_SP, b_SP, 6) != one


def test_pairing_removes_what_problems_have_in_common():
    a_SP, b_SP = table(3, 40, 1, shift=0.2), table(3, 40, 2)
    hardness_P = 64.0 * np.arange(40)
    plain = paired_difference(a_SP, b_SP, 0)
    shifted = paired_difference(a_SP + hardness_P, b_SP + hardness_P, 0)
    assert (shifted.low, shifted.high) == pytest.approx((plain.low, plain.high))
    assert shifted.p_value == plain.p_value


def test_unknown_seeds_and_problems_are_left_out():
    a_SP, b_SP = table(3, 20, 1), table(3, 20, 2)
    holey_a, holey_b = np.full((5, 22), np.nan), table(5, 22, 3)
    holey_a[np.ix_([0, 2, 3], range(1, 21))] = a_SP
    holey_b[np.ix_([0, 2, 3], range(1, 21))] = b_SP
    assert paired_difference(holey_a, holey_b, 0) == paired_difference(a_SP, b_SP, 0)
    assert mean_over_seeds(holey_a, 0) == mean_over_seeds(a_SP, 0)


def test_little_or_nothing_known():
    nothing = paired_difference([[np.nan, 1.0]], [[0.0, np.nan]], seed=0)
    assert np.isnan([nothing.mean, nothing.low, nothing.high, nothing.p_value]).all()
    assert (nothing.num_seeds, nothing.num_problems) == (0, 0)
    single = paired_difference([[1.0, np.nan]], [[0.5, 0.0]], seed=0)
    assert (single.mean, single.low, single.high) == (0.5, 0.5, 0.5)
    assert np.isnan(single.p_value)
    assert np.isnan(mean_over_seeds(ZERO((0, 3)), 0).mean)


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    a_SP, b_SP = table(3, 20, 1), table(3, 20, 2)
    whole = paired_difference(a_SP, b_SP, 0, 501), rank_correlation_over_seeds(a_SP, b_SP, 0, 501)
    monkeypatch.setattr(significance, "CHUNK", 64)
    pieces = paired_difference(a_SP, b_SP, 0, 501), rank_correlation_over_seeds(a_SP, b_SP, 0, 501)
    for one, other in zip(whole, pieces, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)


def test_weights_are_multinomial():
    weights_RN = resampling_weights(np.random.default_rng(0), 20_000, 5)
    assert (weights_RN.sum(axis=1) == 5).all()
    np.testing.assert_allclose(weights_RN.mean(axis=0), 1, atol=0.03)
    covariance_NN = np.eye(5) - 0.2  # n (diag(1/n) - 1/n^2)
    np.testing.assert_allclose(np.cov(weights_RN.T), covariance_NN, atol=0.03)


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.2, 0.6, 1.0]), min_size=1, max_size=5))
def test_holm_is_closed_bonferroni(values):
    """Another way to the same: a claim stands if every set of claims that holds it stands."""
    adjusted = holm({str(i): p for i, p in enumerate(values)})
    for i in range(len(values)):
        sets = [
            chosen
            for size in range(1, len(values) + 1)
            for chosen in combinations(range(len(values)), size)
            if i in chosen
        ]
        worst = max(len(chosen) * min(values[j] for j in chosen) for chosen in sets)
        assert adjusted[str(i)] == pytest.approx(min(1.0, worst))


def test_holm_by_hand():
    found = holm({"c": 0.04, "a": 0.01, "gone": np.nan, "b": 0.03, "d": 0.005})
    assert list(found) == ["c", "a", "gone", "b", "d"]
    assert np.isnan(found["gone"])
    known = {name: found[name] for name in "abcd"}
    assert known == pytest.approx({"d": 0.02, "a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"only": 0.03}) == {"only": 0.03}
    assert holm({}) == {}
    with pytest.raises(DataError, match=r"p-value of 'x' is 1\.5"):
        holm({"x": 1.5})


VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan])


@given(arrays(np.float64, (2, 7), elements=VALUES))
def test_rank_correlation_equals_scipy(xy_2N):
    known_N = ~np.isnan(xy_2N).any(axis=0)
    x_N, y_N = xy_2N[:, known_N]
    found = rank_correlation(*xy_2N, seed=0, num_resamples=50)
    assert found.num == known_N.sum()
    if len(set(x_N)) < 2 or len(set(y_N)) < 2:
        assert np.isnan([found.mean, found.low, found.high]).all()
    else:
        assert found.mean == pytest.approx(spearmanr(x_N, y_N)[0])
        assert np.isnan(found.low) == (known_N.sum() < 3)


def test_rank_correlation_over_seeds_equals_a_plain_loop():
    rng = np.random.default_rng(4)
    x_SN = np.round(rng.normal(size=(3, 7)), 0)
    y_SN = x_SN + rng.normal(size=(3, 7))
    x_SN[1, 2] = np.nan
    means = []
    for _ in range(300):
        rows, columns = rng.integers(0, 3, 3), rng.integers(0, 7, 7)
        found = [known_spearman(x_SN[row, columns], y_SN[row, columns]) for row in rows]
        if not np.isnan(found).all():
            means.append(np.nanmean(found))
    found = rank_correlation_over_seeds(x_SN, y_SN, seed=0, level=0.5)
    rows = zip(x_SN, y_SN, strict=True)
    assert found.mean == pytest.approx(np.mean([known_spearman(x_N, y_N) for x_N, y_N in rows]))
    expected = np.quantile(means, [0.25, 0.75])
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.05)
    assert found.num == 20


def known_spearman(x_N, y_N):
    known_N = ~np.isnan(x_N + y_N)
    x_N, y_N = x_N[known_N], y_N[known_N]
    constant = len(set(x_N)) < 2 or len(set(y_N)) < 2
    return np.nan if constant else np.corrcoef(mean_ranks(x_N), mean_ranks(y_N))[0, 1]


def mean_ranks(values_N):
    return [(values_N < v).sum() + 0.5 * (values_N == v).sum() for v in values_N]


def test_rank_correlation_heeds_ranks_alone():
    x_N, y_N = table(2, 9, 5)
    found = rank_correlation(x_N, y_N, seed=1)
    assert rank_correlation(np.exp(x_N), y_N**3, seed=1) == found
    assert rank_correlation(y_N, x_N, seed=1) == found
    turned = rank_correlation(x_N, -y_N, seed=1)
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (-found.mean, -found.high, -found.low)
    )
    exact = rank_correlation(x_N, x_N, seed=1)
    assert (exact.mean, exact.low, exact.high, exact.num) == (1, 1, 1, 9)


def test_one_seed_or_copies_of_it_are_the_same_correlation():
    x_N, y_N = table(2, 8, 6)
    found = rank_correlation(x_N, y_N, seed=1)
    holey_N = [np.insert(values, 3, filler) for values, filler in ((x_N, 5.0), (y_N, np.nan))]
    assert rank_correlation(*holey_N, seed=1) == found
    copies = rank_correlation_over_seeds(np.tile(x_N, (3, 1)), np.tile(y_N, (3, 1)), seed=1)
    assert (copies.mean, copies.low, copies.high) == pytest.approx(
        (found.mean, found.low, found.high)
    )
    assert copies.num == 24


def test_correlation_of_little():
    two = rank_correlation([1.0, 2.0, np.nan], [3.0, 4.0, 5.0], seed=0)
    assert (two.mean, two.num) == (1, 2)
    assert np.isnan([two.low, two.high]).all()
    nothing = rank_correlation_over_seeds(np.full((2, 4), np.nan), ZERO((2, 4)), seed=0)
    assert nothing.num == 0
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
    # A seed in which all rewards are equal has no say in the mean.
    x_SN = [[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]]
    some = rank_correlation_over_seeds(x_SN, [[1.0, 2.0, 4.0, 3.0]] * 2, seed=0)
    assert some.mean == pytest.approx(0.8)
    assert some.low <= some.mean <= some.high


def test_misuse_is_refused():
    with pytest.raises(DataError, match="seeds by problems"):
        paired_difference([1.0, 2.0], [1.0, 2.0], 0)
    with pytest.raises(DataError, match=r"\(1, 2\) and \(1, 3\)"):
        paired_difference(ZERO((1, 2)), ZERO((1, 3)), 0)
    with pytest.raises(DataError, match="infinite"):
        mean_over_seeds([[np.inf]], 0)
    with pytest.raises(DataError, match="seeds by problems"):
        mean_over_seeds([1.0], 0)
    with pytest.raises(DataError, match="one per data set"):
        rank_correlation([[1.0]], [[1.0]], 0)
    with pytest.raises(DataError, match="same seeds and data sets"):
        rank_correlation([1.0, 2.0], [1.0], 0)
    with pytest.raises(ConfigError, match="level is 95"):
        paired_difference([[1.0]], [[1.0]], 0, level=95)
    with pytest.raises(ConfigError, match="num_resamples is 0"):
        paired_difference([[1.0]], [[1.0]], 0, num_resamples=0)
