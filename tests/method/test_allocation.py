"""Assignment: ties by seed and never by order, unknowns, conservation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from persyn_ray.errors import DataError
from persyn_ray.method.allocation import assign, draws, oracle_probability, shares, tie_breaks
from persyn_ray.method.rewards import combine

SCORES = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, np.nan]))
)


def names(prefix, num):
    return [f"{prefix}{number}" for number in range(num)]


def breaks_for(scores_PM, seed=0):
    num_prompts, num_teachers = np.shape(scores_PM)
    return tie_breaks(names("p", num_prompts), names("t", num_teachers), seed)


def test_three_teachers_by_hand():
    scores_PM = [[0.4, 0.6, 0.3], [0.5, np.nan, 0.2], [np.nan, 0.1, np.nan], [np.nan] * 3]
    teacher_P, margin_P = assign(scores_PM, breaks_for(scores_PM))
    assert teacher_P.tolist() == [1, 0, 1, -1]
    assert teacher_P.dtype == np.int64
    np.testing.assert_allclose(margin_P, [0.2, 0.3, np.nan, np.nan])


def test_candidates_narrow_the_choice():
    scores_PM = np.tile([0.4, 0.6, 0.3], (3, 1))
    candidates_PM = [[1, 0, 1], [0, 0, 1], [0, 0, 0]]
    teacher_P, margin_P = assign(scores_PM, breaks_for(scores_PM), candidates_PM)
    assert teacher_P.tolist() == [0, 2, -1]
    np.testing.assert_allclose(margin_P, [0.1, np.nan, np.nan])


@given(SCORES)
def test_equals_a_plain_loop(scores_PM):
    tie_breaks_PM = breaks_for(scores_PM)
    teacher_P, margin_P = assign(scores_PM, tie_breaks_PM)
    for p, row in enumerate(scores_PM):
        ranked = sorted(
            (m for m in range(len(row)) if not np.isnan(row[m])),
            key=lambda m: (row[m], tie_breaks_PM[p, m]),
            reverse=True,
        )
        assert teacher_P[p] == (ranked[0] if ranked else -1)
        assert np.isnan(margin_P[p]) == (len(ranked) < 2)
        if len(ranked) >= 2:
            assert margin_P[p] == row[ranked[0]] - row[ranked[1]]


def test_permuting_pool_and_prompts_permutes_everything():
    rng = np.random.default_rng(0)
    prompt_ids, teachers = names("p", 200), names("t", 7)
    quality_PM = rng.integers(0, 2, (200, 7)).astype(float)
    quality_PM[rng.random((200, 7)) < 0.1] = np.nan
    learnability_PM = -rng.integers(1, 4, (200, 7)).astype(float)

    def run(row_P, order_M):
        rewards_PM = combine(
            quality_PM[row_P][:, order_M], learnability_PM[row_P][:, order_M], 0.4, "zscore"
        )
        ids, pool = [prompt_ids[p] for p in row_P], [teachers[m] for m in order_M]
        teacher_P, margin_P = assign(rewards_PM, tie_breaks(ids, pool, seed=5))
        return dict(zip(ids, [pool[m] if m >= 0 else None for m in teacher_P], strict=True)), dict(
            zip(ids, margin_P.tolist(), strict=True)
        )

    assigned, margins = run(np.arange(200), np.arange(7))
    assigned_again, margins_again = run(rng.permutation(200), rng.permutation(7))
    assert assigned == assigned_again
    assert [margins[p] for p in prompt_ids] == pytest.approx(
        [margins_again[p] for p in prompt_ids], nan_ok=True, abs=0
    )


def test_draws_depend_on_names_and_seed_alone():
    whole_PM = tie_breaks(["a", "b", "c"], ["x", "y", "z"], 1)
    np.testing.assert_array_equal(
        tie_breaks(["c", "a"], ["z", "x"], 1), whole_PM[[2, 0]][:, [2, 0]]
    )
    assert not np.any(tie_breaks(["a", "b", "c"], ["x", "y", "z"], 2) == whole_PM)
    assert not np.any(draws(["a", "b", "c"], ["x", "y", "z"], 1, "other") == whole_PM)
    assert tie_breaks([], ["x"], 1).shape == (0, 1)


def test_draws_are_uniform_and_unrelated():
    drawn_PM = tie_breaks(names("p", 20_000), names("t", 5), seed=-3)
    assert drawn_PM.min() >= 0
    assert drawn_PM.max() < 1
    # Standard errors: 0.002 for a mean, 0.007 for a correlation, 0.001 for a decile's share.
    np.testing.assert_allclose(drawn_PM.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(drawn_PM.T), np.eye(5), atol=0.03)
    np.testing.assert_allclose(np.histogram(drawn_PM, 10, (0, 1))[0] / 1e5, 0.1, atol=0.005)
    winners_M = shares(assign(np.zeros_like(drawn_PM), drawn_PM)[0], 5)
    np.testing.assert_allclose(winners_M, 0.2, atol=0.015)


@given(SCORES)
def test_shares_conserve_prompts(scores_PM):
    teacher_P, _ = assign(scores_PM, breaks_for(scores_PM))
    shares_M = shares(teacher_P, scores_PM.shape[1])
    assert shares_M.shape == (scores_PM.shape[1],)
    assert shares_M.sum() == pytest.approx(1.0 if (teacher_P >= 0).any() else 0.0)


def test_shares_leave_out_nobody_and_refuse_strangers():
    np.testing.assert_array_equal(shares([0, 2, -1, 2, 2], 3), [0.25, 0, 0.75])
    np.testing.assert_array_equal(shares([0, 0], 1), [1.0])
    with pytest.raises(DataError, match="Teacher 3 is outside"):
        shares([0, 3], 3)
    with pytest.raises(DataError, match="Teacher -2 is outside"):
        shares([-2], 3)


def test_oracle_probability_shares_the_first_place():
    rewards_PM = [[1.0, 1.0, 0.0], [0.2, np.nan, 0.1], [np.nan] * 3]
    np.testing.assert_array_equal(
        oracle_probability(rewards_PM), [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]]
    )


def test_seeded_oracles_spread_like_the_probability():
    rewards_PM = np.tile([1.0, 1.0, 0.0, 1.0], (6000, 1))
    teacher_P, margin_P = assign(rewards_PM, breaks_for(rewards_PM))
    assert (margin_P == 0).all()
    np.testing.assert_allclose(shares(teacher_P, 4), oracle_probability(rewards_PM)[0], atol=0.03)


def test_misuse_is_refused():
    with pytest.raises(DataError, match="one shape"):
        assign([[1.0, 2.0]], [[0.1]])
    with pytest.raises(DataError, match="one shape"):
        assign([[1.0, 2.0]], [[0.1, 0.2]], [[True]])
    with pytest.raises(DataError, match="infinite"):
        assign([[1.0, np.inf]], [[0.1, 0.2]])
