"""Hedging: second teachers where the router is unsure; more responses never keep a worse one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.baselines import oracle
from persyn_ray.method.bradley_terry import pair_probabilities
from persyn_ray.method.metrics import routed_reward
from persyn_ray.statistics.hedging import hedge, hedging_curve, keep_better


def draws_for(values_PM, seed=0):
    num_prompts, num_teachers = np.shape(values_PM)
    prompts = [f"p{number}" for number in range(num_prompts)]
    return tie_breaks(prompts, [f"t{number}" for number in range(num_teachers)], seed)


@st.composite
def worlds(draw):
    """Logits with ties, unknowns and missing candidates; rewards with ties and unknowns."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 30)), draw(st.integers(1, 5)))
    logits_PM = rng.choice([-1.0, 0.0, 0.5, np.nan], shape)
    if draw(st.booleans()):
        logits_PM = rng.normal(size=shape)
    rewards_PM = rng.choice([0.0, 0.5, 1.0, np.nan], shape)
    candidates_PM = rng.random(shape) < draw(st.sampled_from([0.7, 1.0]))
    return logits_PM, rewards_PM, candidates_PM


def test_three_prompts_by_hand():
    # sigma(0.2) = 0.55, sigma(2) = 0.88, sigma(0.1) = 0.525.
    logits_PM = [[1.0, 0.8, -3.0], [0.0, 2.0, -1.0], [-0.4, -0.5, -0.3]]
    draws_PM = draws_for(logits_PM)
    first_P, second_P = hedge(logits_PM, None, 0.06, None, draws_PM)
    assert first_P.tolist() == [0, 1, 2]
    assert second_P.tolist() == [1, -1, 0]
    assert hedge(logits_PM, None, 0.03, None, draws_PM)[1].tolist() == [-1, -1, 0]
    assert hedge(logits_PM, None, 0.5, 1, draws_PM)[1].tolist() == [-1, -1, 0]
    rewards_PM = [[0.3, 0.7, 1.0], [0.1, 0.0, 1.0], [0.2, 0.9, 0.5]]
    assert keep_better(first_P, second_P, rewards_PM, draws_PM).tolist() == [1, 1, 2]


@given(worlds(), st.floats(0, 0.5), st.one_of(st.none(), st.integers(0, 10)))
def test_hedged_are_the_closest_inside_the_band(world, band, max_extra):
    logits_PM, _, candidates_PM = world
    draws_PM = draws_for(logits_PM)
    first_P, second_P = hedge(logits_PM, candidates_PM, band, max_extra, draws_PM)
    np.testing.assert_array_equal(first_P, assign(logits_PM, draws_PM, candidates_PM)[0])
    others_PM = candidates_PM.copy()
    others_PM[np.arange(len(first_P)), np.maximum(first_P, 0)] = False
    runner_up_P, _ = assign(logits_PM, draws_PM, others_PM)
    is_hedged_P = second_P >= 0
    np.testing.assert_array_equal(second_P[is_hedged_P], runner_up_P[is_hedged_P])
    chance_PMM = pair_probabilities(np.nan_to_num(logits_PM))
    both = np.flatnonzero(runner_up_P >= 0)
    chance = chance_PMM[both, first_P[both], runner_up_P[both]]
    # Clear of rounding at the very edge of the band.
    inside, outside = both[chance < 0.5 + band - 1e-9], both[chance > 0.5 + band + 1e-9]
    assert not is_hedged_P[outside].any()
    if max_extra is None or is_hedged_P.sum() < max_extra:
        assert is_hedged_P[inside].all()
    else:
        assert is_hedged_P.sum() == max_extra
    left_out = np.setdiff1d(both, np.flatnonzero(is_hedged_P))
    hedged = np.intersect1d(both, np.flatnonzero(is_hedged_P))
    if hedged.size and left_out.size:
        margin_P = np.full(len(first_P), np.nan)
        margin_P[both] = logits_PM[both, first_P[both]] - logits_PM[both, runner_up_P[both]]
        assert margin_P[hedged].max() <= margin_P[left_out].min()


def test_bands_end_at_never_and_always():
    rng = np.random.default_rng(0)
    logits_PM = 50 * rng.normal(size=(200, 4))  # sigma is 1 in floats for most
    draws_PM = draws_for(logits_PM)
    assert (hedge(logits_PM, None, 0.0, None, draws_PM)[1] == -1).all()
    assert (hedge(logits_PM, None, 0.5, None, draws_PM)[1] >= 0).all()
    assert (hedge(logits_PM, None, 0.5, 0, draws_PM)[1] == -1).all()
    assert (hedge(np.zeros((200, 4)), None, 0.0, None, draws_PM)[1] >= 0).all()
    assert (hedge(logits_PM[:, :1], None, 0.5, None, draws_PM[:, :1])[1] == -1).all()


def test_draws_decide_among_equally_close_ones():
    logits_PM = np.zeros((4000, 4))
    _, second_P = hedge(logits_PM, None, 0.5, 1000, draws_for(logits_PM))
    hedged = np.flatnonzero(second_P >= 0)
    assert len(hedged) == 1000
    assert hedged.mean() == pytest.approx(2000, abs=120)
    np.testing.assert_allclose(np.bincount(second_P[hedged]) / 1000, 0.25, atol=0.05)


def test_permuting_prompts_and_teachers_permutes_everything():
    rng = np.random.default_rng(1)
    logits_PM = rng.integers(0, 3, (300, 4)).astype(float)
    rewards_PM = rng.integers(0, 3, (300, 4)).astype(float)
    draws_PM = draws_for(logits_PM)
    prompts, teachers = rng.permutation(300), rng.permutation(4)
    mix = np.ix_(prompts, teachers)
    first_P, second_P = hedge(logits_PM, None, 0.2, 70, draws_PM)
    kept_P = keep_better(first_P, second_P, rewards_PM, draws_PM)
    mixed_first_P, mixed_second_P = hedge(logits_PM[mix], None, 0.2, 70, draws_PM[mix])
    mixed_P = keep_better(mixed_first_P, mixed_second_P, rewards_PM[mix], draws_PM[mix])
    np.testing.assert_array_equal(teachers[mixed_first_P], first_P[prompts])
    np.testing.assert_array_equal(teachers[mixed_P], kept_P[prompts])
    assert (mixed_second_P >= 0).sum() == 70
    curve = hedging_curve(logits_PM, rewards_PM, [0, 0.3, 1.5], draws_PM)
    mixed = hedging_curve(logits_PM[mix], rewards_PM[mix], [0, 0.3, 1.5], draws_PM[mix])
    np.testing.assert_allclose(mixed.reward_S, curve.reward_S, rtol=1e-12)


@given(worlds())
def test_the_better_known_response_is_kept(world):
    logits_PM, rewards_PM, candidates_PM = world
    draws_PM = draws_for(logits_PM)
    first_P, second_P = hedge(logits_PM, candidates_PM, 0.5, None, draws_PM)
    kept_P = keep_better(first_P, second_P, rewards_PM, draws_PM)
    for first, second, kept, reward_M in zip(first_P, second_P, kept_P, rewards_PM, strict=True):
        if second == -1:
            assert kept == first
            continue
        known = [m for m in (first, second) if not np.isnan(reward_M[m])]
        assert kept in (known or [first])
        assert not known or reward_M[kept] == max(reward_M[m] for m in known)


def test_equal_rewards_are_drawn_for():
    logits_PM = np.tile([1.0, 0.0], (4000, 1))
    draws_PM = draws_for(logits_PM)
    first_P, second_P = hedge(logits_PM, None, 0.5, None, draws_PM)
    kept_P = keep_better(first_P, second_P, np.ones((4000, 2)), draws_PM)
    assert kept_P.mean() == pytest.approx(0.5, abs=0.03)


@given(worlds())
def test_the_curve_equals_a_plain_loop_and_never_falls(world):
    logits_PM, rewards_PM, candidates_PM = world
    draws_PM = draws_for(logits_PM)
    num_prompts, num_teachers = logits_PM.shape
    orders = []
    for p in range(num_prompts):
        able = [m for m in range(num_teachers) if candidates_PM[p, m]]
        able = [m for m in able if not np.isnan(logits_PM[p, m])]
        orders.append(sorted(able, key=lambda m: (-logits_PM[p, m], -draws_PM[p, m])))
    known = [p for p, order in enumerate(orders) if order and not np.isnan(rewards_PM[p, order[0]])]
    shares = np.arange(0, num_teachers, 0.25)
    if not known:
        with pytest.raises(DataError, match="No routed reward"):
            hedging_curve(logits_PM, rewards_PM, shares, draws_PM, candidates_PM)
        return
    curve = hedging_curve(logits_PM, rewards_PM, shares, draws_PM, candidates_PM)
    asks = sorted(
        (rank, logits_PM[p, orders[p][0]] - logits_PM[p, m], draws_PM[p, m], p, m)
        for p in known
        for rank, m in enumerate(orders[p])
        if rank
    )
    for share, extra, reward in zip(shares, curve.extra_S, curve.reward_S, strict=True):
        num_extra = min(round(share * len(known)), len(asks))
        wrote = {p: [rewards_PM[p, orders[p][0]]] for p in known}
        for *_, p, m in asks[:num_extra]:
            wrote[p].append(rewards_PM[p, m])
        assert extra == num_extra / len(known)
        assert reward == pytest.approx(np.mean([np.nanmax(wrote[p]) for p in known]))
    assert curve.num_prompts == len(known)
    assert (np.diff(curve.reward_S) >= -1e-12).all()
    assert (np.diff(curve.random_S) >= -1e-12).all()


def planted(num_prompts=3000, seed=2):
    """Logits that tell of rewards, with noise."""
    rng = np.random.default_rng(seed)
    logits_PM = rng.normal(size=(num_prompts, 5))
    return logits_PM, logits_PM + rng.normal(size=logits_PM.shape)


def test_the_curve_runs_from_routing_to_the_oracle():
    logits_PM, rewards_PM = planted()
    draws_PM = draws_for(logits_PM)
    curve = hedging_curve(logits_PM, rewards_PM, [0, 1, 4, 99], draws_PM)
    first_P, second_P = hedge(logits_PM, None, 0.5, None, draws_PM)
    kept_P = keep_better(first_P, second_P, rewards_PM, draws_PM)
    ends = [routed_reward(rewards_PM, teacher_P).mean() for teacher_P in (first_P, kept_P)]
    best = routed_reward(rewards_PM, oracle(rewards_PM, draws_PM)).mean()
    np.testing.assert_allclose(curve.reward_S, [*ends, best, best])
    np.testing.assert_allclose(curve.random_S, curve.reward_S)
    assert curve.extra_S.tolist() == [0, 1, 4, 4]


def test_a_budget_on_the_curve_is_that_many_hedges():
    logits_PM, rewards_PM = planted()
    draws_PM = draws_for(logits_PM)
    first_P, second_P = hedge(logits_PM, None, 0.5, 600, draws_PM)
    kept_P = keep_better(first_P, second_P, rewards_PM, draws_PM)
    curve = hedging_curve(logits_PM, rewards_PM, [0.2], draws_PM)
    assert curve.reward_S[0] == pytest.approx(routed_reward(rewards_PM, kept_P).mean())


def test_the_closest_gain_more_than_the_control_which_is_a_mean_over_draws():
    logits_PM, rewards_PM = planted()
    draws_PM = draws_for(logits_PM)
    curve = hedging_curve(logits_PM, rewards_PM, [0.3, 1.4], draws_PM)
    assert (curve.reward_S > curve.random_S).all()
    first_P, second_P = hedge(logits_PM, None, 0.5, None, draws_PM)
    kept_P = keep_better(first_P, second_P, rewards_PM, draws_PM)
    one_P, two_P = (routed_reward(rewards_PM, teacher_P) for teacher_P in (first_P, kept_P))
    rng = np.random.default_rng(3)
    drawn = [rng.permutation(3000) < 900 for _ in range(400)]
    means = [np.where(is_hedged_P, two_P, one_P).mean() for is_hedged_P in drawn]
    assert curve.random_S[0] == pytest.approx(np.mean(means), abs=4 * np.std(means) / 20)


def test_unknown_rewards_are_paid_for_and_never_kept():
    logits_PM = np.tile([3.0, 2.0, 1.0], (4, 1))
    rewards_PM = np.array([[0.5, np.nan, 1.0], [0.5, 0.9, 0.1], [np.nan, 1.0, 1.0], [0.1, 0.1, 0]])
    curve = hedging_curve(logits_PM, rewards_PM, [0, 1, 2], draws_for(logits_PM))
    assert curve.num_prompts == 3  # the third has no routed reward to compare with
    np.testing.assert_allclose(curve.reward_S * 3, [1.1, 1.5, 2.0])


def test_impossible_settings_are_refused():
    logits_PM = np.zeros((3, 2))
    draws_PM = draws_for(logits_PM)
    for band in (-0.1, 0.6, np.nan):
        with pytest.raises(ConfigError, match="band is"):
            hedge(logits_PM, None, band, None, draws_PM)
    with pytest.raises(ConfigError, match="max_extra is -1"):
        hedge(logits_PM, None, 0.1, -1, draws_PM)
    with pytest.raises(ConfigError, match=r"Extra shares \[-1\]"):
        hedging_curve(logits_PM, logits_PM, [-1], draws_PM)
    with pytest.raises(DataError, match="one shape"):
        hedging_curve(logits_PM, np.zeros((3, 3)), [0], draws_PM)
    with pytest.raises(DataError, match="do not fit"):
        keep_better([0, 0], [1, 1], np.zeros((3, 2)), draws_PM)
