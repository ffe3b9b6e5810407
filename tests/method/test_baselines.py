"""Baselines: chance is chance, constants are constant, unknowns do not win."""

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method.allocation import shares, tie_breaks
from persyn_ray.method.baselines import (
    best_constant,
    best_of,
    compatibility_adjusted_reward,
    constant_assignment,
    mix_assignment,
    oracle,
    random_assignment,
    served,
)
from persyn_ray.method.metrics import agreement, hit_at_k, regret
from persyn_ray.pipeline.assign.methods import MIX_ADVICE

TEACHERS = ["ada", "ben", "cy", "dot"]
IDS = [f"p{number}" for number in range(8000)]


def test_random_is_even_seeded_and_free_of_order():
    teacher_P = random_assignment(IDS, TEACHERS, seed=1)
    np.testing.assert_allclose(shares(teacher_P, 4), 0.25, atol=0.02)
    again_P = random_assignment(IDS[::-1], TEACHERS[::-1], seed=1)[::-1]
    np.testing.assert_array_equal(3 - again_P, teacher_P)
    assert agreement(teacher_P, random_assignment(IDS, TEACHERS, seed=2)) == pytest.approx(
        0.25, abs=0.02
    )


def test_random_meets_a_tied_oracle_no_more_often_than_chance():
    rewards_PM = np.ones((len(IDS), 4))
    oracle_P = oracle(rewards_PM, tie_breaks(IDS, TEACHERS, seed=1))
    found = agreement(oracle_P, random_assignment(IDS, TEACHERS, seed=1))
    assert found == pytest.approx(0.25, abs=0.02)


def test_random_honours_candidates():
    candidates_PM = np.tile([True, False, True, False], (len(IDS), 1))
    candidates_PM[0] = False
    teacher_P = random_assignment(IDS, TEACHERS, 1, candidates_PM)
    assert teacher_P[0] == -1
    np.testing.assert_allclose(shares(teacher_P, 4), [0.5, 0, 0.5, 0], atol=0.02)


def test_best_constant_has_the_best_mean():
    rewards_PM = [[0.2, 0.9, 0.5, 0.1], [0.3, 0.1, 0.6, 0.1]]
    assert best_constant(rewards_PM, TEACHERS, seed=0) == 2


def test_best_constant_does_not_fall_for_a_few_lucky_prompts():
    rewards_PM = np.tile([0.5, 0.4, np.nan, np.nan], (10, 1))
    rewards_PM[:4, 2] = 1.0  # known on 4 of 10
    assert best_constant(rewards_PM, TEACHERS, seed=0) == 0
    rewards_PM[4, 2] = 1.0  # known on 5 of 10
    assert best_constant(rewards_PM, TEACHERS, seed=0) == 2


def test_best_constant_counts_only_prompts_on_which_anyone_is_known():
    rewards_PM = np.full((10, 4), np.nan)
    rewards_PM[:4, 0] = 0.5
    rewards_PM[:2, 1] = 0.9  # 2 of the 4 prompts that say anything
    assert best_constant(rewards_PM, TEACHERS, seed=0) == 1


def test_best_constant_when_everyone_is_rarely_known():
    rewards_PM = np.full((4, 4), np.nan)
    np.fill_diagonal(rewards_PM, [0.1, 0.2, 0.4, 0.3])
    assert best_constant(rewards_PM, TEACHERS, seed=0) == 2


def test_best_constant_breaks_ties_by_name_and_seed():
    rewards_PM = np.tile([0.5, 0.5, 0.1, 0.5], (3, 1))
    winners = {TEACHERS[best_constant(rewards_PM, TEACHERS, seed)] for seed in range(40)}
    assert winners == {"ada", "ben", "dot"}
    for seed in range(10):
        order_M = np.random.default_rng(seed).permutation(4)
        permuted = best_constant(rewards_PM[:, order_M], [TEACHERS[m] for m in order_M], seed)
        assert order_M[permuted] == best_constant(rewards_PM, TEACHERS, seed)


def test_best_constant_sees_equal_means_in_any_order_of_prompts():
    # 0.1 + 0.2 + 0.3 rounds differently from 0.3 + 0.2 + 0.1; the means are equal all the same.
    rewards_PM = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    assert {best_constant(rewards_PM, ["ada", "ben"], seed) for seed in range(20)} == {0, 1}


def test_best_constant_without_any_reward_is_refused():
    with pytest.raises(DataError, match="No reward"):
        best_constant(np.full((3, 4), np.nan), TEACHERS, 0)
    with pytest.raises(DataError, match="do not fit"):
        best_constant(np.zeros((3, 2)), TEACHERS, 0)


def test_constant_gives_everything_to_one():
    np.testing.assert_array_equal(constant_assignment(2, 3), [2, 2, 2])
    candidates_PM = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(constant_assignment(2, 3, candidates_PM), [2, -1, -1])


def test_constant_falls_back_to_the_next_best():
    candidates_PM = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    found_P = constant_assignment(2, 4, candidates_PM, [0.1, 0.2, 0.9, np.nan])
    np.testing.assert_array_equal(found_P, [2, 1, 0, -1])


def test_equal_fallbacks_need_tie_breaks():
    candidates_PM = np.array([[1, 1, 0, 0]] * 400, dtype=bool)
    scores_M = [0.5, 0.5, 0.9, 0.1]
    with pytest.raises(DataError, match="tie breaks"):
        constant_assignment(2, 400, candidates_PM, scores_M)
    tie_breaks_PM = tie_breaks(IDS[:400], TEACHERS, 0)
    found_P = constant_assignment(2, 400, candidates_PM, scores_M, tie_breaks_PM)
    np.testing.assert_allclose(shares(found_P, 4), [0.5, 0.5, 0, 0], atol=0.1)
    # The tie is not in anybody's way where the constant teacher is a candidate.
    assert constant_assignment(2, 1, [[1, 1, 1, 1]], scores_M).tolist() == [2]


def test_constant_refuses_candidates_of_another_size():
    with pytest.raises(DataError, match="do not fit"):
        constant_assignment(2, 3, np.ones((2, 4), dtype=bool))
    with pytest.raises(DataError, match="do not fit"):
        constant_assignment(4, 2, np.ones((2, 4), dtype=bool))


def test_the_oracle_has_no_regret_and_always_hits():
    rewards_PM = np.random.default_rng(0).integers(0, 3, (500, 4)).astype(float)
    rewards_PM[:, 3] = np.nan
    oracle_P = oracle(rewards_PM, tie_breaks(IDS[:500], TEACHERS, 0))
    assert (regret(rewards_PM, oracle_P) == 0).all()
    chosen_PM = np.eye(4)[oracle_P]
    assert (hit_at_k(chosen_PM, rewards_PM, 1) == 1).all()


def test_mix_keeps_to_its_share_and_a_larger_share_only_adds() -> None:
    ids = [f"p{number}" for number in range(4000)]
    some_P = mix_assignment(ids, 2, 0, 0.2, seed=0)
    more_P = mix_assignment(ids, 2, 0, 0.5, seed=0)
    assert set(some_P) == {0, 2}
    assert abs((some_P == 2).mean() - 0.2) < 0.03
    assert (more_P[some_P == 2] == 2).all()
    assert (mix_assignment(ids, 2, 0, 0.0, seed=0) == 0).all()
    assert (mix_assignment(ids, 2, 0, 1.0, seed=0) == 2).all()
    by_id = dict(zip(ids, some_P, strict=True))
    assert [by_id[name] for name in ids[::-1]] == mix_assignment(ids[::-1], 2, 0, 0.2, 0).tolist()


@pytest.mark.parametrize(("strong", "share"), [(0, 0.2), (1, 1.2), (1, float("nan"))])
def test_mix_refuses_one_teacher_and_shares_that_are_none(strong: int, share: float) -> None:
    with pytest.raises(ConfigError, match="compare"), advising(MIX_ADVICE, ConfigError):
        mix_assignment(["a"], strong, 0, share, seed=0)


def test_car_is_the_quality_without_beta_and_falls_with_the_loss() -> None:
    quality_M, loss_M = np.array([0.5, 0.5, np.nan]), np.array([1.0, 3.0, 1.0])
    np.testing.assert_array_equal(compatibility_adjusted_reward(quality_M, loss_M, 0), quality_M)
    found_M = compatibility_adjusted_reward(quality_M, loss_M, 2.0)
    np.testing.assert_allclose(found_M, [0.5 / 3, 0.5 / 7, np.nan])
    with pytest.raises(DataError, match="gain by a high loss"):
        compatibility_adjusted_reward([-1.0, 0.2], [1.0, 1.0], 1.0)
    with (
        pytest.raises(ConfigError, match="car_beta"),
        advising("Change compare.car_beta.", ConfigError),
    ):
        compatibility_adjusted_reward(quality_M, loss_M, -1.0)


def test_the_best_of_equals_is_drawn_by_name_not_by_place() -> None:
    names = ["a", "b", "c"]
    chosen = {names[best_of([1.0, 1.0, 0.0], names, seed)] for seed in range(20)}
    turned = {names[::-1][best_of([0.0, 1.0, 1.0], names[::-1], seed)] for seed in range(20)}
    assert chosen == turned == {"a", "b"}
    with pytest.raises(DataError, match="No value"):
        best_of([np.nan] * 3, names, 0)


def test_a_wanted_teacher_that_is_no_candidate_gives_way_to_the_best_that_is() -> None:
    able_PM = np.array([[True, True, True], [False, True, True], [False, False, False]])
    wanted_P = np.array([0, 0, 0])
    breaks_PM = np.zeros((3, 3))
    np.testing.assert_array_equal(served(wanted_P, able_PM, [0.9, 0.1, 0.5], breaks_PM), [0, 2, -1])
    np.testing.assert_array_equal(served(wanted_P, able_PM), [0, -1, -1])
