"""Parity: gaps per token and flipped orders, by hand and at the limits."""

import numpy as np
import pytest

from persyn_ray.errors import DataError
from persyn_ray.statistics.parity import compare

PROMPTS = ("p", "p", "p", "q", "q")


def logs(*means: float) -> list[np.ndarray]:
    return [np.array([mean - 1, mean + 1]) for mean in means]


def test_worked_by_hand():
    reference, other = logs(-2, -3, -4, -2, -5), logs(-2, -4.5, -4, -2, -5.5)
    found = compare(reference, other, PROMPTS)
    assert found.max_gap == 1.5
    assert found.mean_gap == pytest.approx((2 * 1.5 + 2 * 0.5) / 10)
    # Of p's three pairs one changes places (the second falls below the third), of q's none.
    assert (found.num_tokens, found.num_pairs, found.num_flips) == (10, 4, 1)


def test_nothing_differs_from_itself():
    found = compare(logs(-1, -2, -3, -4, -5), logs(-1, -2, -3, -4, -5), PROMPTS)
    assert (found.max_gap, found.num_flips) == (0.0, 0)


def test_equal_responses_have_no_order_to_lose_and_losing_one_is_a_flip():
    assert compare(logs(-1, -1), logs(-1, -9), "pp").num_pairs == 0
    assert compare(logs(-1, -2), logs(-3, -3), "pp").num_flips == 1


def test_responses_to_different_prompts_are_no_pair():
    assert compare(logs(-1, -2), logs(-2, -1), "pq").num_pairs == 0


def test_what_does_not_match_is_refused():
    with pytest.raises(DataError, match="do not match"):
        compare(logs(-1), logs(-1, -2), "pp")
    with pytest.raises(DataError, match="same number"):
        compare([np.zeros(2)], [np.zeros(3)], "p")
    with pytest.raises(DataError, match="need tokens"):
        compare([np.zeros(0)], [np.zeros(0)], "p")
