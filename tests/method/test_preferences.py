"""Preferences: a case by hand, conservation of pairs, invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from persyn_ray.errors import ConfigError, advising
from persyn_ray.method.preferences import PreferenceCounts, count_preferences, preferences

# Few distinct values, so that ties and unknowns are common.
REWARDS = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, np.nan]))
)


def test_three_teachers_and_one_prompt_by_hand():
    rewards_PM = [[0.4, 0.6, 0.4]]
    np.testing.assert_array_equal(preferences(rewards_PM), [[[0, 0, 0], [1, 0, 1], [0, 0, 0]]])
    np.testing.assert_array_equal(
        preferences(rewards_PM, "half"), [[[0, 0, 0.5], [1, 0, 1], [0.5, 0, 0]]]
    )
    assert count_preferences(rewards_PM) == PreferenceCounts(2, 1, 0, 0)


def test_nineteen_teachers_make_171_pairs():
    rewards_PM = np.random.default_rng(0).random((10, 19))
    assert preferences(rewards_PM).sum() == 1710
    assert count_preferences(rewards_PM).num_pairs == 1710


@given(REWARDS)
def test_equals_a_plain_loop(rewards_PM):
    wins_PMM = {"drop": preferences(rewards_PM), "half": preferences(rewards_PM, "half")}
    for p, row in enumerate(rewards_PM):
        for i, mine in enumerate(row):
            for j, theirs in enumerate(row):
                tied = i != j and mine == theirs
                assert wins_PMM["drop"][p, i, j] == (mine > theirs)
                assert wins_PMM["half"][p, i, j] == (0.5 if tied else mine > theirs)


@given(REWARDS)
def test_every_pair_is_won_tied_or_lost_to_an_unknown(rewards_PM):
    num_prompts, num_teachers = rewards_PM.shape
    counts = count_preferences(rewards_PM)
    known_P = (~np.isnan(rewards_PM)).sum(axis=1)
    assert counts.num_pairs == preferences(rewards_PM).sum()
    assert counts.num_pairs + counts.num_ties == preferences(rewards_PM, "half").sum()
    assert counts.num_pairs + counts.num_ties == (known_P * (known_P - 1) // 2).sum()
    assert counts.num_null_teachers == num_prompts * num_teachers - known_P.sum()
    won_P = preferences(rewards_PM).any(axis=(1, 2))
    assert counts.num_prompts_without_pairs == (~won_P).sum()


@given(REWARDS, st.data())
def test_permuting_the_pool_permutes_the_pairs(rewards_PM, data):
    order_M = data.draw(st.permutations(range(rewards_PM.shape[1])))
    for ties in ("drop", "half"):
        expected_PMM = preferences(rewards_PM, ties)[:, order_M][:, :, order_M]
        np.testing.assert_array_equal(preferences(rewards_PM[:, order_M], ties), expected_PMM)
    assert count_preferences(rewards_PM[:, order_M]) == count_preferences(rewards_PM)


@given(REWARDS, st.integers(-8, 8))
def test_adding_a_constant_to_a_prompt_changes_nothing(rewards_PM, constant):
    np.testing.assert_array_equal(
        preferences(rewards_PM + constant, "half"), preferences(rewards_PM, "half")
    )


def test_one_teacher_or_no_prompt_makes_no_pair():
    assert count_preferences([[0.3], [0.7]]) == PreferenceCounts(0, 0, 0, 2)
    assert preferences(np.empty((0, 3))).shape == (0, 3, 3)
    assert count_preferences(np.empty((0, 3))) == PreferenceCounts(0, 0, 0, 0)


def test_unknown_tie_rule_names_the_setting():
    with (
        pytest.raises(ConfigError, match=r"router\.ties"),
        advising("Change router.ties.", ConfigError),
    ):
        preferences([[1.0, 2.0]], "coin")  # type: ignore[arg-type]
