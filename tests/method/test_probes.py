"""Probes: the formulas against plain loops, ties without order, unknowns left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method import cosine
from persyn_ray.method.probes import (
    choose_k,
    knn_scores,
    linear_probe,
    linear_probe_scores,
    probe_scores,
)

NUM, WIDTH, TEACHERS = 30, 6, 4


def world(seed: int, unknown: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of prompts (9, D) and of a parallel set, and its rewards: linear, and noise."""
    rng = np.random.default_rng(seed)
    parallel_ND = rng.normal(1, 2, (NUM, WIDTH))
    rewards_NM = parallel_ND @ rng.normal(size=(WIDTH, TEACHERS)) + rng.normal(size=(NUM, TEACHERS))
    rewards_NM[rng.random(rewards_NM.shape) < unknown] = np.nan
    return rng.normal(1, 2, (9, WIDTH)), parallel_ND, rewards_NM


def plain_knn(prompts_PD: np.ndarray, parallel_ND: np.ndarray, rewards_NM: np.ndarray, k: int):
    scores_PM = np.full((len(prompts_PD), rewards_NM.shape[1]), np.nan)
    for p, prompt in enumerate(prompts_PD):
        cosines = [e @ prompt / np.sqrt((e @ e) * (prompt @ prompt)) for e in parallel_ND]
        nearest = sorted(range(len(cosines)), key=lambda n: -cosines[n])[:k]
        for m in range(rewards_NM.shape[1]):
            known = [rewards_NM[n, m] for n in nearest if not np.isnan(rewards_NM[n, m])]
            if known:
                scores_PM[p, m] = sum(known) / len(known)
    return scores_PM


@pytest.mark.parametrize("k", [1, 3, NUM])
def test_knn_is_the_mean_over_the_nearest_known(k: int):
    prompts_PD, parallel_ND, rewards_NM = world(0, unknown=0.5)
    expected_PM = plain_knn(prompts_PD, parallel_ND, rewards_NM, k)
    assert np.isnan(expected_PM).any() == (k < NUM)
    scores_PM = knn_scores(prompts_PD, parallel_ND, rewards_NM, k)
    np.testing.assert_allclose(scores_PM, expected_PM)


def test_knn_of_everyone_is_the_mean_reward():
    prompts_PD, parallel_ND, rewards_NM = world(1)
    scores_PM = knn_scores(prompts_PD, parallel_ND, rewards_NM, 10 * NUM)
    np.testing.assert_allclose(scores_PM, np.tile(np.nanmean(rewards_NM, axis=0), (9, 1)))


def test_equally_far_prompts_share_the_last_place():
    parallel_ND = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, -1.0]])
    rewards_NM = np.array([[6.0], [0.0], [3.0], [100.0]])
    east_PD = np.array([[1.0, 0.0]])
    # The nearest has one place, the other three are equally far and share what is left.
    assert knn_scores(east_PD, parallel_ND, rewards_NM, 1) == pytest.approx(6.0)
    assert knn_scores(east_PD, parallel_ND, rewards_NM, 2) == pytest.approx((6 + 103 / 3) / 2)
    assert knn_scores(east_PD, parallel_ND, rewards_NM, 3) == pytest.approx((6 + 2 * 103 / 3) / 3)
    unknown_NM = np.array([[np.nan], [0.0], [3.0], [np.nan]])
    assert knn_scores(east_PD, parallel_ND, unknown_NM, 2) == pytest.approx(1.5)


@given(seed=st.integers(0, 1000), k=st.integers(1, NUM))
def test_knn_knows_no_order_and_no_length(seed: int, k: int):
    prompts_PD, parallel_ND, rewards_NM = world(seed)
    rng = np.random.default_rng(seed)
    # Repeated prompts make ties, within a block of rows and across.
    parallel_ND[10:20] = parallel_ND[:10]
    scores_PM = knn_scores(prompts_PD, parallel_ND, rewards_NM, k)
    order_N, order_M = rng.permutation(NUM), rng.permutation(TEACHERS)
    permuted_PM = knn_scores(
        prompts_PD * rng.uniform(0.1, 9, (9, 1)),
        (parallel_ND * rng.uniform(0.1, 9, (NUM, 1)))[order_N],
        rewards_NM[order_N][:, order_M],
        k,
    )
    np.testing.assert_allclose(permuted_PM, scores_PM[:, order_M], atol=1e-9)


def test_k_is_chosen_as_by_leaving_each_prompt_out():
    _, parallel_ND, rewards_NM = world(2, unknown=0.1)
    scores = {
        k: np.vstack(
            [
                plain_knn(parallel_ND[n : n + 1], *_without(n, parallel_ND, rewards_NM), k)
                for n in range(NUM)
            ]
        )
        for k in (2, 4, 8)
    }
    assert np.isnan(scores[2]).any()
    known_NM = ~np.isnan(scores[2])  # whoever is known on two is known on more
    errors = {k: np.nansum((s_NM - rewards_NM)[known_NM] ** 2) for k, s_NM in scores.items()}
    assert len(set(errors.values())) == 3
    assert choose_k(parallel_ND, rewards_NM, (2, 4, 8)) == min(errors, key=errors.__getitem__)


def test_k_follows_what_there_is_to_find():
    rng = np.random.default_rng(0)
    parallel_ND = rng.normal(size=(300, 3))
    noise_NM = rng.normal(size=(300, 2))
    signal_NM = np.sign(parallel_ND[:, :2]) + 0.1 * noise_NM
    assert choose_k(parallel_ND, noise_NM) > 50
    assert choose_k(parallel_ND, signal_NM) < 20
    assert choose_k(parallel_ND, np.ones((300, 2)), (5, 50)) == 50


@pytest.mark.parametrize("width", [WIDTH, 3 * NUM])
def test_the_probe_minimises_squared_error_and_penalty(width: int):
    rng = np.random.default_rng(width)
    parallel_ND, rewards_N1 = rng.normal(3, 2, (NUM, width)), rng.normal(size=(NUM, 1))
    probe = linear_probe(parallel_ND, rewards_N1, 0.3)
    # The same as least squares on rows with the penalty as further rows; the last column is free.
    features_ND = (parallel_ND - parallel_ND.mean(axis=0)) / parallel_ND.std(axis=0)
    penalty_DD = np.sqrt(0.3 * NUM) * np.eye(width, width + 1)
    rows = np.vstack([np.hstack([features_ND, np.ones((NUM, 1))]), penalty_DD])
    solution, *_ = np.linalg.lstsq(rows, np.append(rewards_N1, np.zeros(width)))
    np.testing.assert_allclose(probe.weights_DM[:, 0], solution[:-1], atol=1e-9)
    np.testing.assert_allclose(probe.bias_M, solution[-1])
    scores_PM = probe_scores(probe, parallel_ND[:5])
    np.testing.assert_allclose(scores_PM[:, 0], features_ND[:5] @ solution[:-1] + solution[-1])


def test_the_penalty_is_chosen_as_by_leaving_each_prompt_out():
    _, parallel_ND, rewards_NM = world(3)
    rewards_NM += np.geomspace(0.1, 100, TEACHERS) * np.random.default_rng(3).normal(size=(NUM, 1))
    grid = (0.01, 0.1, 1.0, 10.0)
    errors_LM = np.zeros((len(grid), TEACHERS))
    for number, l2 in enumerate(grid):
        for m in range(TEACHERS):
            known = np.flatnonzero(~np.isnan(rewards_NM[:, m]))
            for left_out in known:
                rest_N1 = np.full((NUM, 1), np.nan)
                rest_N1[known, 0] = rewards_NM[known, m]
                rest_N1[left_out] = np.nan
                # All embeddings shape the scale; the penalty is on the mean error over one fewer.
                smaller = l2 * len(known) / (len(known) - 1)
                probe = linear_probe(parallel_ND, rest_N1, smaller)
                score = probe_scores(probe, parallel_ND[left_out : left_out + 1])[0, 0]
                errors_LM[number, m] += (score - rewards_NM[left_out, m]) ** 2
    chosen_M = np.array(grid)[errors_LM.argmin(axis=0)]
    assert len(set(chosen_M)) > 1
    np.testing.assert_array_equal(linear_probe(parallel_ND, rewards_NM, grid).l2_M, chosen_M)


def test_the_probe_finds_a_linear_truth_and_no_more_than_there_is():
    rng = np.random.default_rng(4)
    parallel_ND, weights_DM = rng.normal(2, 3, (200, 8)), rng.normal(size=(8, 3))
    truth_NM = parallel_ND @ weights_DM + 5
    probe = linear_probe(parallel_ND, truth_NM)
    fresh_PD = rng.normal(2, 3, (50, 8))
    np.testing.assert_allclose(probe_scores(probe, fresh_PD), fresh_PD @ weights_DM + 5, atol=0.1)
    noise_NM = rng.normal(size=(200, 3))
    flat_PM = probe_scores(linear_probe(parallel_ND, noise_NM), fresh_PD)
    assert np.abs(flat_PM - noise_NM.mean(axis=0)).max() < 0.5


def test_unknown_rewards_are_left_out_teacher_by_teacher():
    prompts_PD, parallel_ND, rewards_NM = world(5)
    rewards_NM = np.hstack([rewards_NM, np.full((NUM, 2), np.nan)])
    rewards_NM[7, 5] = 0.25
    scores_PM = probe_scores(linear_probe(parallel_ND, rewards_NM), prompts_PD)
    for m in range(TEACHERS):
        alone = probe_scores(linear_probe(parallel_ND, rewards_NM[:, [m]]), prompts_PD)
        np.testing.assert_allclose(scores_PM[:, m], alone[:, 0], atol=1e-9)
    assert np.isnan(scores_PM[:, 4]).all()  # never known
    np.testing.assert_allclose(scores_PM[:, 5], 0.25)  # known once


@given(seed=st.integers(0, 1000))
def test_the_probe_knows_no_order_and_no_scale(seed: int):
    prompts_PD, parallel_ND, rewards_NM = world(seed)
    rng = np.random.default_rng(seed)
    scores_PM = linear_probe_scores(prompts_PD, parallel_ND, rewards_NM)
    order_N, order_M = rng.permutation(NUM), rng.permutation(TEACHERS)
    scale_D, shift_D = rng.uniform(0.1, 9, WIDTH), rng.normal(size=WIDTH)
    probe = linear_probe(
        (parallel_ND * scale_D + shift_D)[order_N], rewards_NM[order_N][:, order_M]
    )
    permuted_PM = probe_scores(probe, prompts_PD * scale_D + shift_D)
    np.testing.assert_allclose(permuted_PM, scores_PM[:, order_M], atol=1e-6)


def test_a_constant_dimension_says_nothing():
    prompts_PD, parallel_ND, rewards_NM = world(6)
    scores_PM = probe_scores(linear_probe(parallel_ND, rewards_NM), prompts_PD)
    wider = linear_probe(np.hstack([parallel_ND, np.full((NUM, 1), 0.1)]), rewards_NM)
    np.testing.assert_allclose(
        probe_scores(wider, np.hstack([prompts_PD, np.full((9, 1), 0.1)])), scores_PM, atol=1e-9
    )


def test_stretches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    prompts_PD, parallel_ND, rewards_NM = world(7)
    probe = linear_probe(parallel_ND, rewards_NM)
    whole = (
        knn_scores(prompts_PD, parallel_ND, rewards_NM, 4),
        probe_scores(probe, prompts_PD),
        choose_k(parallel_ND, rewards_NM),
    )
    monkeypatch.setattr(cosine, "CHUNK", 2 * NUM)
    np.testing.assert_allclose(knn_scores(prompts_PD, parallel_ND, rewards_NM, 4), whole[0])
    np.testing.assert_allclose(probe_scores(probe, prompts_PD), whole[1])
    assert choose_k(parallel_ND, rewards_NM) == whole[2]


def test_what_does_not_fit_is_refused():
    prompts_PD, parallel_ND, rewards_NM = world(8)
    with pytest.raises(ConfigError, match="k is 0"):
        knn_scores(prompts_PD, parallel_ND, rewards_NM, 0)
    with pytest.raises(ConfigError, match="l2 is 0"):
        linear_probe(parallel_ND, rewards_NM, 0)
    with pytest.raises(ConfigError, match="No k"):
        choose_k(parallel_ND, rewards_NM, ())
    with pytest.raises(DataError, match="at least two"):
        choose_k(parallel_ND[:1], rewards_NM[:1])
    for make in (linear_probe, lambda *given: knn_scores(prompts_PD, *given, k=1)):
        with pytest.raises(DataError, match="do not fit"):
            make(parallel_ND, rewards_NM[:-1])
        with pytest.raises(DataError, match="row 3 is all zeros"):
            make(parallel_ND * (np.arange(NUM) != 3)[:, None], rewards_NM)
        with pytest.raises(DataError, match="infinite"):
            make(parallel_ND, np.where(np.isnan(rewards_NM), np.inf, rewards_NM))
    with pytest.raises(DataError, match="same backbone"):
        knn_scores(prompts_PD[:, 1:], parallel_ND, rewards_NM, 1)
    with pytest.raises(DataError, match="same backbone"):
        probe_scores(linear_probe(parallel_ND, rewards_NM), prompts_PD[:, 1:])


def _without(n: int, parallel_ND: np.ndarray, rewards_NM: np.ndarray):
    return np.delete(parallel_ND, n, axis=0), np.delete(rewards_NM, n, axis=0)
