"""Metrics: by hand, against enumeration of ties, chance levels, invariances."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import tie_breaks
from persyn_ray.method.baselines import oracle, random_assignment
from persyn_ray.method.metrics import (
    agreement,
    alpha_sweep,
    chance_at_k,
    hit_at_k,
    hits,
    pairwise_accuracy,
    regret,
    routed_reward,
)

VALUES = st.sampled_from([0.0, 1.0, 2.0, np.nan])
ROWS = arrays(np.float64, (1, 4), elements=VALUES)


def hit_by_enumeration(scores, rewards, k):
    """Average over every order that agrees with the scores; unscored teachers are left out."""
    if np.isnan(rewards).all() or np.isnan(scores).all():
        return np.nan
    best = {m for m in range(len(rewards)) if rewards[m] == np.nanmax(rewards)}
    scored = [m for m in range(len(scores)) if not np.isnan(scores[m])]
    orders = [
        order
        for order in permutations(scored)
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    return sum(bool(best & set(order[:k])) for order in orders) / len(orders)


def test_hits_by_hand():
    scores_PM = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [5.0, 5.0, 0.0]]
    rewards_PM = [[0.9, 0.1, 0.0], [0.9, 0.8, 0.1], [0.9, 0.1, 0.0]]
    np.testing.assert_array_equal(hit_at_k(scores_PM, rewards_PM, 1), [1, 0, 0.5])
    np.testing.assert_array_equal(hit_at_k(scores_PM, rewards_PM, 2), [1, 0, 1])


@settings(max_examples=100)
@given(ROWS, ROWS, st.integers(1, 5))
def test_hits_equal_enumeration_of_ties(scores_PM, rewards_PM, k):
    expected = hit_by_enumeration(scores_PM[0], rewards_PM[0], k)
    assert hit_at_k(scores_PM, rewards_PM, k)[0] == pytest.approx(expected, nan_ok=True)


@given(arrays(np.float64, (5, 4), elements=st.floats(-5, 5)), ROWS)
def test_every_teacher_considered_is_a_hit(scores_PM, rewards_1M):
    hits_P = hit_at_k(scores_PM, np.repeat(rewards_1M, 5, axis=0), 4)
    assert np.isnan(hits_P).all() if np.isnan(rewards_1M).all() else (hits_P == 1).all()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_chance_level_is_k_of_m(k):
    rng = np.random.default_rng(k)
    rewards_PM = rng.random((6000, 5))
    constant = hit_at_k(np.zeros((6000, 5)), rewards_PM, k)
    np.testing.assert_allclose(constant, k / 5, rtol=1e-12)
    drawn = hit_at_k(rng.random((6000, 5)), rewards_PM, k)
    assert drawn.mean() == pytest.approx(k / 5, abs=0.02)


def test_random_routing_hits_at_chance():
    rewards_PM = np.random.default_rng(0).random((6000, 5))
    random_P = random_assignment([str(p) for p in range(6000)], list("abcde"), seed=0)
    assert hit_at_k(np.eye(5)[random_P], rewards_PM, 1).mean() == pytest.approx(0.2, abs=0.02)


def test_hits_grow_with_k_and_ignore_the_order_of_teachers():
    rng = np.random.default_rng(2)
    scores_PM, rewards_PM = rng.integers(0, 3, (2, 300, 6)).astype(float)
    hits_KP = np.array([hit_at_k(scores_PM, rewards_PM, k) for k in range(1, 8)])
    assert (np.diff(hits_KP, axis=0) >= -1e-12).all()
    order_M = rng.permutation(6)
    permuted_P = hit_at_k(scores_PM[:, order_M], rewards_PM[:, order_M], 2)
    np.testing.assert_array_equal(permuted_P, hits_KP[1])


def test_k_below_one_is_refused():
    with pytest.raises(ConfigError, match="Hit@0"):
        hit_at_k([[1.0]], [[1.0]], 0)


def test_reward_and_regret_by_hand():
    rewards_PM = [[0.9, 0.4], [0.2, np.nan], [np.nan, np.nan], [0.3, 0.8], [0.5, 0.1]]
    teacher_P = [1, 1, 0, -1, 0]
    np.testing.assert_array_equal(
        routed_reward(rewards_PM, teacher_P), [0.4, np.nan, np.nan, np.nan, 0.5]
    )
    np.testing.assert_allclose(regret(rewards_PM, teacher_P), [0.5, np.nan, np.nan, np.nan, 0.0])


@given(arrays(np.float64, (6, 3), elements=VALUES), st.integers(-9, 9))
def test_regret_is_never_negative_and_knows_no_origin(rewards_PM, constant):
    teacher_P = np.arange(6) % 3
    regret_P = regret(rewards_PM, teacher_P)
    assert not (regret_P < 0).any()
    np.testing.assert_allclose(regret(rewards_PM + constant, teacher_P), regret_P)
    oracle_P = oracle(rewards_PM, tie_breaks(list("abcdef"), list("xyz"), 0))
    assert (regret(rewards_PM, oracle_P)[oracle_P >= 0] == 0).all()


@given(arrays(np.float64, (3, 4), elements=VALUES), arrays(np.float64, (3, 4), elements=VALUES))
def test_pairwise_accuracy_equals_a_plain_loop(scores_PM, rewards_PM):
    correct_P, pairs_P = pairwise_accuracy(scores_PM, rewards_PM)
    for p, (scores, rewards) in enumerate(zip(scores_PM, rewards_PM, strict=True)):
        pairs = [(i, j) for i in range(4) for j in range(4) if rewards[i] > rewards[j]]
        pairs = [(i, j) for i, j in pairs if not np.isnan(scores[i] + scores[j])]
        points = sum(
            1.0 if scores[i] > scores[j] else 0.5 * (scores[i] == scores[j]) for i, j in pairs
        )
        assert pairs_P[p] == len(pairs)
        assert correct_P[p] == points


def test_pairwise_accuracy_limits():
    rewards_PM = np.random.default_rng(0).random((20, 5))
    assert (pairwise_accuracy(rewards_PM, rewards_PM)[0] == 10).all()
    assert (pairwise_accuracy(-rewards_PM, rewards_PM)[0] == 0).all()
    assert (pairwise_accuracy(0 * rewards_PM, rewards_PM)[0] == 5).all()
    assert pairwise_accuracy(rewards_PM, rewards_PM)[1].dtype == np.int64


def test_agreement_leaves_out_the_unassigned():
    assert agreement([0, 1, 2, -1], [0, 1, 1, -1]) == pytest.approx(2 / 3)
    assert np.isnan(agreement([-1, 0], [0, -1]))
    with pytest.raises(DataError, match="one shape"):
        agreement([0, 1], [0])


def test_alpha_sweep_runs_from_quality_to_learnability():
    rng = np.random.default_rng(4)
    quality_PM, learnability_PM = rng.normal(size=(400, 5)), -rng.exponential(size=(400, 5))
    breaks_PM = tie_breaks([str(p) for p in range(400)], list("abcde"), 0)
    alphas = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    sweep = alpha_sweep(quality_PM, learnability_PM, alphas, "minmax", breaks_PM)
    assert sweep.reference_alpha == 0.4
    assert sweep.agreement_A[2] == 1.0
    assert sweep.agreement_A[0] < 1.0
    np.testing.assert_allclose(sweep.shares_AM.sum(axis=1), 1.0)
    assert sweep.mean_quality_A[0] == pytest.approx(quality_PM.max(axis=1).mean())
    assert sweep.mean_learnability_A[-1] == pytest.approx(learnability_PM.max(axis=1).mean())
    # Mean quality may only fall, mean learnability only rise, up to noise of single prompts.
    assert (np.diff(sweep.mean_quality_A) < 0.02).all()
    assert (np.diff(sweep.mean_learnability_A) > -0.02).all()


def test_alpha_sweep_has_unknown_means_when_nothing_is_known():
    nothing_PM = np.full((3, 2), np.nan)
    sweep = alpha_sweep(nothing_PM, nothing_PM, [0.4], "minmax", np.zeros((3, 2)))
    assert np.isnan(sweep.mean_quality_A[0])
    assert np.isnan(sweep.agreement_A[0])
    np.testing.assert_array_equal(sweep.shares_AM, [[0, 0]])


@given(
    arrays(np.float64, (2, 4), elements=VALUES),
    arrays(np.bool_, (2, 4), elements=st.booleans()),
    st.integers(1, 5),
)
def test_chance_is_the_mean_hit_over_every_draw(rewards_PM, able_PM, k):
    found_P = chance_at_k(rewards_PM, k, able_PM)
    for row, able_M, found in zip(rewards_PM, able_PM, found_P, strict=True):
        drawable = np.flatnonzero(able_M)
        if np.isnan(row).all() or not drawable.size:
            assert np.isnan(found)
            continue
        best = set(np.flatnonzero(row == np.nanmax(row)))
        orders = list(permutations(drawable))
        expected = np.mean([bool(best & set(order[:k])) for order in orders])
        assert found == pytest.approx(expected)


def test_chance_is_what_a_seeded_random_teacher_hits():
    rng = np.random.default_rng(8)
    rewards_PM = rng.integers(0, 2, (300, 5)).astype(float)  # right or wrong: many ties
    rewards_PM[rng.random((300, 5)) < 0.3] = np.nan  # cut answers have no reward
    able_PM = rng.random((300, 5)) < 0.9
    ids, names = [str(p) for p in range(300)], list("abcde")
    drawn = [
        np.nanmean(hits(rewards_PM, random_assignment(ids, names, seed, able_PM)))
        for seed in range(300)
    ]
    chance = np.nanmean(chance_at_k(rewards_PM, 1, able_PM))
    assert chance == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 300**0.5)
    assert chance > 1 / 5 + 0.1


def test_chance_counts_ties_and_teachers_without_a_reward():
    rewards_PM = [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, np.nan, np.nan], [np.nan] * 3]
    np.testing.assert_allclose(chance_at_k(rewards_PM, 1), [1, 1 / 3, 2 / 3, 1 / 3, np.nan])
    np.testing.assert_allclose(chance_at_k(rewards_PM, 3), [1, 1, 1, 1, np.nan])


@given(arrays(np.float64, (3, 4), elements=VALUES))
def test_hits_of_an_assignment_are_those_of_its_scores(rewards_PM):
    teacher_P = np.array([0, 3, -1])
    scores_PM = np.full((3, 4), np.nan)
    scores_PM[[0, 1], [0, 3]] = 1
    np.testing.assert_array_equal(hits(rewards_PM, teacher_P), hit_at_k(scores_PM, rewards_PM, 1))
