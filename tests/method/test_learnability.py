"""Measures of learnability against independent writings, their limits, and their signs."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.method.learnability import (
    as_learnability,
    local_windows,
    lowest_stretch,
    lowest_window,
    mean_log_likelihood,
    rank_surprisal,
)

RESPONSE = st.lists(st.floats(min_value=-30, max_value=0), min_size=1, max_size=80)


def test_worked_by_hand():
    # Two tokens of probability 1/2 and 1/8: the mean of -ln 2 and -3 ln 2 is -2 ln 2.
    log_probs_T = [log(0.5), log(0.125)]
    assert mean_log_likelihood(log_probs_T) == pytest.approx(-2 * log(2), rel=1e-15)
    # Ranks 1 and 7: mean rank 4 over a surprisal of 2 ln 2.
    assert rank_surprisal(log_probs_T, [1, 7]) == pytest.approx(4 / (2 * log(2)))
    assert rank_surprisal(log_probs_T, [1, 5000]) == pytest.approx(101 / (4 * log(2)))


@given(RESPONSE, st.integers(1, 12))
def test_equal_plain_loops(values, size):
    assert mean_log_likelihood(values) == pytest.approx(sum(values) / len(values), abs=1e-12)
    starts = range(max(1, len(values) - size + 1))
    means = [sum(values[s : s + size]) / len(values[s : s + size]) for s in starts]
    assert lowest_window(values, size) == pytest.approx(min(means), abs=1e-9)
    start, end = lowest_stretch(values, size)
    assert end - start == min(size, len(values))
    assert sum(values[start:end]) / (end - start) == pytest.approx(min(means), abs=1e-9)


@given(RESPONSE)
def test_the_lowest_window_is_never_above_the_whole_and_never_below_the_worst_token(values):
    worst, whole = lowest_window(values), mean_log_likelihood(values)
    assert min(values) - 1e-9 <= worst <= whole + 1e-9


def test_of_stretches_that_are_alike_the_first_is_meant():
    values = [-0.1, -2.0, -0.1, -2.0, -0.1]
    assert lowest_stretch(values, 1) == (1, 2)
    assert lowest_stretch(values, 2) == (0, 2)


@given(st.integers(0, 300), st.integers(1, 64))
def test_windows_cover_every_token_once_and_see_only_what_stands_before(num_tokens, size):
    windows = local_windows(num_tokens, size)
    covered = [place for start, end, _ in windows for place in range(start, end)]
    assert covered == list(range(num_tokens))
    assert all(start - context == min(size, start) for start, _, context in windows)


def test_a_response_without_tokens_is_unknown():
    assert np.isnan(mean_log_likelihood([]))
    assert np.isnan(lowest_window([]))
    assert lowest_stretch([]) == (0, 0)
    assert np.isnan(rank_surprisal([], []))


def test_a_response_without_surprise_has_no_ratio():
    assert np.isnan(rank_surprisal([0.0, 0.0], [1, 1]))


def test_more_learnability_is_better_whatever_the_measure():
    """A student that knows the one response well and is lost in the other."""
    sure, lost = [log(0.9)] * 40, [log(0.001)] * 40
    ranks_sure, ranks_lost = [1] * 40, [90] * 40
    for measure in (mean_log_likelihood, lowest_window):
        assert as_learnability(measure(sure), measure.__name__) > as_learnability(
            measure(lost), measure.__name__
        )
    # Low probability, high rank: small ratios are better (the ratio's own authors), so of two
    # responses of equal surprisal the one with better ranks is the more learnable.
    good = as_learnability(rank_surprisal(lost, ranks_sure), "rank_surprisal")
    bad = as_learnability(rank_surprisal(lost, ranks_lost), "rank_surprisal")
    assert good > bad
    assert as_learnability(0.1, "entropy") > as_learnability(5.0, "entropy")
    np.testing.assert_array_equal(as_learnability([-1.0, np.nan], "log_likelihood"), [-1.0, np.nan])


def test_rounding_above_zero_is_taken_as_certainty():
    assert mean_log_likelihood([5e-7, 0.0]) == 0.0


@pytest.mark.parametrize("unusable", [np.nan, -np.inf, np.inf])
def test_values_that_are_not_finite_are_refused(unusable):
    for measure in (mean_log_likelihood, lowest_window):
        with pytest.raises(DataError, match="not finite"):
            measure([unusable, -1.0])


def test_positive_values_and_impossible_ranks_are_refused_with_the_value():
    with pytest.raises(DataError, match=r"2\.5 is above 0"):
        mean_log_likelihood([-1.0, 2.5])
    with pytest.raises(DataError, match="must be from 1 on"):
        rank_surprisal([-1.0], [0])
    with pytest.raises(DataError, match="one for each of 2"):
        rank_surprisal([-1.0, -1.0], [1])


def test_perplexity_of_a_fair_coin():
    assert exp(-mean_log_likelihood([log(0.5)] * 9)) == pytest.approx(2)
