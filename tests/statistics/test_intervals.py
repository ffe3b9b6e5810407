"""Intervals: against printed tables, analytic forms and each other."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.statistics.intervals import bootstrap_difference, bootstrap_mean, wilson


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_another_implementation(num, data, level):
    successes = data.draw(st.integers(0, num))
    found = wilson(successes, num, level)
    expected = binomtest(successes, num).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.num == num


def test_wilson_at_the_ends_and_without_trials():
    assert wilson(0, 10).low == 0
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=5e-5)
    assert wilson(10, 10).high == 1
    nothing = wilson(0, 0)
    assert isnan(nothing.mean)
    assert (nothing.low, nothing.high, nothing.num) == (0, 1, 0)


def test_wilson_covers_as_often_as_it_says():
    # Exact coverage jumps from share to share (0.93 to 0.97 here), so it is taken over many shares.
    found = [wilson(successes, 60) for successes in range(61)]
    low, high = np.array([interval.low for interval in found]), [i.high for i in found]
    shares = np.linspace(0.05, 0.95, 181)[:, None]
    covered = (low <= shares) & (shares <= high)
    coverage = (binom.pmf(np.arange(61), 60, shares) * covered).sum(axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.005)
    assert coverage.min() > 0.93


def test_bootstrap_agrees_with_the_normal_interval():
    values_P = np.random.default_rng(1).normal(2.0, 3.0, size=900)
    found = bootstrap_mean(values_P, seed=0)
    half = 1.96 * values_P.std(ddof=1) / 30
    assert found.mean == pytest.approx(values_P.mean())
    assert found.low == pytest.approx(values_P.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values_P.mean() + half, abs=0.03)


def test_bootstrap_agrees_with_wilson_on_shares():
    found = bootstrap_mean([1.0] * 120 + [0.0] * 280, seed=0)
    expected = wilson(120, 400)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_bootstrap_leaves_out_unknowns_and_ignores_order():
    values_P = np.random.default_rng(2).random(50)
    holey_P = np.concatenate([[np.nan], values_P[::-1], [np.nan]])
    assert bootstrap_mean(holey_P, seed=3) == bootstrap_mean(values_P, seed=3)
    assert bootstrap_mean(values_P, seed=3) != bootstrap_mean(values_P, seed=4)


def test_bootstrap_of_little():
    nothing = bootstrap_mean([np.nan], seed=0)
    assert isnan(nothing.mean)
    assert isnan(nothing.low)
    assert nothing.num == 0
    single = bootstrap_mean([0.5], seed=0)
    assert (single.mean, single.low, single.high, single.num) == (0.5, 0.5, 0.5, 1)


def test_a_higher_level_is_wider():
    values_P = np.random.default_rng(3).random(100)
    narrow, wide = (bootstrap_mean(values_P, 0, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_values_are_resampled_in_pieces():
    # 300,000 values a resample: several chunks of a few resamples each.
    values_P = np.tile([0.0, 1.0], 150_000)
    found = bootstrap_mean(values_P, seed=0, num_resamples=20)
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.005


def test_pairing_removes_what_prompts_have_in_common():
    rng = np.random.default_rng(4)
    hardness_P = rng.normal(0, 5, size=400)
    a_P = hardness_P + 0.2 + rng.normal(0, 0.1, 400)
    b_P = hardness_P + rng.normal(0, 0.1, 400)
    found = bootstrap_difference(a_P, b_P, seed=0)
    assert found.mean == pytest.approx(0.2, abs=0.03)
    assert found.high - found.low < 0.05
    assert bootstrap_mean(a_P, 0).high - bootstrap_mean(a_P, 0).low > 0.5


def test_differences_use_prompts_known_in_both():
    found = bootstrap_difference([1.0, np.nan, 3.0], [0.0, 1.0, np.nan], seed=0)
    assert (found.mean, found.num) == (1.0, 1)
    same = bootstrap_difference([1.0, 2.0], [1.0, 2.0], seed=0)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_misuse_is_refused():
    with pytest.raises(ConfigError, match="level is 95"):
        wilson(1, 2, level=95)
    with pytest.raises(ConfigError, match="num_resamples is 0"):
        bootstrap_mean([1.0], 0, num_resamples=0)
    with pytest.raises(DataError, match="3 successes of 2"):
        wilson(3, 2)
    with pytest.raises(DataError, match="one shape"):
        bootstrap_difference([1.0], [1.0, 2.0], 0)
