"""New columns: the arithmetic against another writing, and nearly what a full refit would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_expit

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import assign, shares, tie_breaks
from persyn_ray.method.arrays import Floats
from persyn_ray.method.metrics import hit_at_k, regret
from persyn_ray.method.new_teacher import L2_GRID, Column, choose_l2, fit_column, new_column
from persyn_ray.method.preferences import preferences


def probe(seed: int, num_prompts: int = 40) -> tuple[Floats, Floats, Floats, Floats]:
    """Features, old logits, and a new teacher's wins and losses, some pairs unknown."""
    draw = np.random.default_rng(seed)
    features_PD = draw.normal(size=(num_prompts, 3)) * [0.1, 1.0, 20.0] + [5.0, 0.0, -3.0]
    logits_PM = draw.normal(size=(num_prompts, 4))
    wins_PM = (draw.random((num_prompts, 4)) < 0.4).astype(float)
    losses_PM = (draw.random((num_prompts, 4)) < 0.5) * (1 - wins_PM)
    return features_PD, logits_PM, wins_PM, losses_PM


def objective(column: Floats, arrays: tuple[Floats, Floats, Floats, Floats], l2: float) -> float:
    """The loss of a column in the features' own units."""
    features_PD, logits_PM, wins_PM, losses_PM = arrays
    margins_PM = (features_PD @ column[:-1] + column[-1])[:, None] - logits_PM
    total = -(wins_PM * log_expit(margins_PM) + losses_PM * log_expit(-margins_PM)).sum()
    scaled_D = column[:-1] * features_PD.std(axis=0)
    return total / (wins_PM + losses_PM).sum() + l2 / 2 * (scaled_D**2).sum()


@pytest.mark.parametrize("l2", [0.001, 0.1, 3.0])
def test_the_column_has_the_least_loss_by_another_writing(l2: float):
    arrays = probe(0, 15)
    weight_D, bias = fit_column(*arrays, l2)
    found = np.append(weight_D, bias)
    least = objective(found, arrays, l2)
    scale = np.append(1 / arrays[0].std(axis=0), 1.0)
    for step in np.vstack([np.eye(4), -np.eye(4)]) * 1e-3 * scale:
        assert objective(found + step, arrays, l2) > least
    start = np.zeros(4)
    other = minimize(lambda c: objective(c * scale, arrays, l2), start, method="Powell", tol=1e-9)
    assert least == pytest.approx(other.fun, abs=1e-7)
    logits_P = arrays[0] @ weight_D + bias
    np.testing.assert_allclose(
        logits_P, arrays[0] @ (other.x * scale)[:-1] + other.x[-1], atol=1e-3
    )


def test_without_features_that_vary_the_bias_is_the_log_odds():
    features_PD = np.full((10, 2), 7.3)
    wins_PM = np.repeat([[1.0], [0.0]], [8, 2], axis=0)
    weight_D, bias = fit_column(features_PD, np.full((10, 1), 0.5), wins_PM, 1 - wins_PM, 0.1)
    assert weight_D.tolist() == [0.0, 0.0]
    assert bias == pytest.approx(0.5 + np.log(8 / 2), abs=1e-4)


def test_a_large_l2_leaves_the_bias_alone():
    arrays = probe(1)
    weight_D, bias = fit_column(*arrays, 1e6)
    np.testing.assert_allclose(weight_D * arrays[0].std(axis=0), 0, atol=1e-5)
    flat = fit_column(np.zeros((40, 1)), *arrays[1:], 0.0)[1]
    at_the_mean = float(arrays[0].mean(axis=0) @ weight_D + bias)
    assert at_the_mean == pytest.approx(flat, abs=1e-4)


@given(st.integers(0, 1000))
def test_units_of_features_and_order_do_not_matter(seed: int):
    features_PD, *pairs = probe(seed)
    weight_D, bias = fit_column(features_PD, *pairs, 0.05)
    logits_P = features_PD @ weight_D + bias
    moved_PD = features_PD * [3.0, 0.01, -2.0] + [1.0, -50.0, 0.0]
    moved = fit_column(moved_PD, *pairs, 0.05)
    np.testing.assert_allclose(moved_PD @ moved[0] + moved[1], logits_P, atol=1e-3)
    rows, teachers = np.random.default_rng(seed).permutation(40), [2, 0, 3, 1]
    turned = fit_column(features_PD[rows], *(array[rows][:, teachers] for array in pairs), 0.05)
    np.testing.assert_allclose(features_PD @ turned[0] + turned[1], logits_P, atol=1e-3)


def test_prompts_without_pairs_say_nothing_but_where_features_lie():
    features_PD, logits_PM, wins_PM, losses_PM = probe(2)
    wins_PM[:20] = losses_PM[:20] = 0
    features_PD[:20] = features_PD[20:]  # the same spread, so the same units
    doubled = fit_column(features_PD, logits_PM, wins_PM, losses_PM, 0.1)
    half = (array[20:] for array in (features_PD, logits_PM, wins_PM, losses_PM))
    np.testing.assert_allclose(doubled[0], fit_column(*half, 0.1)[0], atol=1e-4)


def test_a_teacher_that_never_lost_stays_finite():
    features_PD, logits_PM, _, _ = probe(3)
    wins_PM = np.ones((40, 4))
    weight_D, bias = fit_column(features_PD, logits_PM, wins_PM, 0 * wins_PM, 0.1)
    assert np.isfinite(weight_D).all()
    assert 5 < (features_PD @ weight_D + bias).min() < 100


def test_l2_is_chosen_by_what_the_other_folds_say():
    draw = np.random.default_rng(4)
    features_PD = draw.normal(size=(120, 30))
    fold_P, none_PM = np.arange(120) % 4, np.zeros((120, 1))

    def chosen(signal_P: Floats) -> float:
        wins_PM = (draw.random(120) < 1 / (1 + np.exp(-signal_P)))[:, None].astype(float)
        return choose_l2(features_PD, none_PM, wins_PM, 1 - wins_PM, fold_P)

    assert chosen(0 * features_PD[:, 0]) == max(L2_GRID)  # noise alone: hold it back
    assert chosen(5 * features_PD[:, 0]) < 0.1
    assert chosen(5 * features_PD[:, 0]) > min(L2_GRID)


def test_l2_is_the_one_with_the_least_loss_outside():
    arrays, fold_P = probe(5), np.arange(40) % 3
    grid = (0.01, 0.3, 1.0)
    losses: list[float] = []
    for l2 in grid:
        total = 0.0
        for fold in range(3):
            out_P = fold_P == fold
            column = np.append(*fit_column(*(array[~out_P] for array in arrays), l2))
            apart = tuple(array[out_P] for array in arrays)
            total += objective(column, apart, 0.0) * (apart[2] + apart[3]).sum()
        losses.append(total)
    assert choose_l2(*arrays, fold_P, grid) == grid[int(np.argmin(losses))]


def test_a_single_fold_compares_nothing_and_holds_back():
    assert choose_l2(*probe(6), np.zeros(40), (0.1, 2.0, 0.5)) == 2.0


def planted(
    num_prompts: int, num_teachers: int = 6, num_features: int = 12, seed: int = 5
) -> tuple[Floats, Floats]:
    """Features, and rewards that are linear in them but for noise; some teachers are stronger."""
    draw = np.random.default_rng(seed)
    spread_D = draw.uniform(0.3, 3.0, num_features)
    features_PD = draw.normal(size=(num_prompts, num_features)) * spread_D
    truth_MD = draw.normal(size=(num_teachers, num_features)) / (spread_D * np.sqrt(num_features))
    noise_PM = 0.3 * draw.normal(size=(num_prompts, num_teachers))
    return features_PD, features_PD @ truth_MD.T + 0.1 * draw.normal(size=num_teachers) + noise_PM


def refit(features_PD: Floats, rewards_PM: Floats, steps: int = 2000) -> tuple[Floats, Floats]:
    """All columns by Bradley-Terry; few steps leave them underconfident, as an early stop does."""
    wins_PMM = preferences(rewards_PM)
    num_teachers, num_features = rewards_PM.shape[1], features_PD.shape[1]

    def loss_and_slope(flat: Floats) -> tuple[float, Floats]:
        columns_MD = flat.reshape(num_teachers, -1)
        logits_PM = features_PD @ columns_MD[:, :-1].T + columns_MD[:, -1]
        margins_PMM = logits_PM[:, :, None] - logits_PM[:, None, :]
        surprise_PMM = wins_PMM / (1 + np.exp(margins_PMM)) / wins_PMM.sum()
        slope_PM = surprise_PMM.sum(axis=1) - surprise_PMM.sum(axis=2)
        loss = (wins_PMM * np.logaddexp(0, -margins_PMM)).sum() / wins_PMM.sum()
        slope_MD = np.column_stack([slope_PM.T @ features_PD, slope_PM.sum(axis=0)])
        return loss, slope_MD.ravel()

    start, options = np.zeros(num_teachers * (num_features + 1)), {"maxiter": steps}
    found = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", options=options)
    columns_MD = found.x.reshape(num_teachers, -1)
    return columns_MD[:, :-1], columns_MD[:, -1]


def joined(
    features_PD: Floats, rewards_PM: Floats, old: tuple[Floats, Floats], num_probe: int
) -> Column:
    """A column for the last teacher from a probe of the prompts."""
    rewards_P = np.where(np.arange(len(features_PD)) < num_probe, rewards_PM[:, -1], np.nan)
    fold_P = np.arange(len(features_PD)) % 5
    return new_column(features_PD, *old, rewards_PM[:, :-1], rewards_P, fold_P)


def routed(logits_PM: Floats) -> np.ndarray:
    names = [str(m) for m in range(logits_PM.shape[1])]
    ids = [str(p) for p in range(len(logits_PM))]
    return assign(logits_PM, tie_breaks(ids, names, 0))[0]


@pytest.mark.parametrize("steps", [2000, 4])
def test_a_column_from_200_prompts_is_nearly_as_good_as_a_full_refit(steps: int):
    features_PD, rewards_PM = planted(2700)
    fit, out = slice(0, 1200), slice(1200, None)
    old = refit(features_PD[fit], rewards_PM[fit, :-1], steps)
    column = joined(features_PD[fit], rewards_PM[fit], old, 200)
    assert column.num_prompts == 200
    assert column.num_pairs == 200 * 5
    old_PM = features_PD[out] @ old[0].T + old[1]
    extended_PM = np.column_stack([old_PM, features_PD[out] @ column.weight_D + column.bias])
    weights_MD, biases_M = refit(features_PD[fit], rewards_PM[fit], steps)
    whole_PM = features_PD[out] @ weights_MD.T + biases_M
    extended = hit_at_k(extended_PM, rewards_PM[out], 1).mean()
    assert extended > hit_at_k(whole_PM, rewards_PM[out], 1).mean() - 0.02
    # The new teacher is the best on a good part of the prompts, and gets about that part.
    true_share = shares(rewards_PM[out].argmax(axis=1), 6)[-1]
    assert true_share > 0.1
    assert shares(routed(extended_PM), 6)[-1] == pytest.approx(true_share, abs=0.05)
    without = regret(rewards_PM[out], routed(old_PM)).mean()
    assert regret(rewards_PM[out], routed(extended_PM)).mean() < 0.8 * without


def test_an_underconfident_router_gets_an_underconfident_column():
    features_PD, rewards_PM = planted(800)
    old = refit(features_PD, rewards_PM[:, :-1])
    column = joined(features_PD, rewards_PM, old, 300)
    for scale in (0.1, 5.0):
        scaled = joined(features_PD, rewards_PM, (scale * old[0], scale * old[1]), 300)
        assert scaled.temperature == pytest.approx(scale * column.temperature, rel=1e-3)
        np.testing.assert_allclose(scaled.weight_D, scale * column.weight_D, rtol=0.01, atol=1e-3)


def test_what_all_old_columns_share_the_new_one_shares_too():
    features_PD, rewards_PM = planted(400)
    weights_MD, biases_M = refit(features_PD, rewards_PM[:, :-1])
    column = joined(features_PD, rewards_PM, (weights_MD, biases_M), 150)
    common_D = np.random.default_rng(1).normal(size=12)
    moved = joined(features_PD, rewards_PM, (weights_MD + common_D, biases_M + 7.0), 150)
    np.testing.assert_allclose(moved.weight_D, column.weight_D + common_D, atol=1e-3)
    assert moved.bias == pytest.approx(column.bias + 7.0, abs=1e-3)


def test_unknown_rewards_are_in_no_pair():
    features_PD, rewards_PM = planted(300)
    old = refit(features_PD, rewards_PM[:, :-1])
    rewards_PM[:50, :-1] = np.nan  # the new teacher is alone there
    rewards_PM[50:60, 2] = np.nan
    column = joined(features_PD, rewards_PM, old, 150)
    assert column.num_prompts == 100
    assert column.num_pairs == 100 * 5 - 10


def test_ties_count_where_they_are_meant_to():
    features_PD, rewards_PM = planted(100)
    old = refit(features_PD, rewards_PM[:, :-1], 10)
    rewards_PM[:30, -1] = rewards_PM[:30, 0]
    given = (features_PD, *old, rewards_PM[:, :-1], rewards_PM[:, -1], np.arange(100) % 5)
    assert new_column(*given).num_pairs == 470
    assert new_column(*given, ties="half").num_pairs == 500


def test_a_teacher_without_a_pair_is_refused():
    features_PD, rewards_PM = planted(50)
    old = refit(features_PD, rewards_PM[:, :-1], 5)
    with pytest.raises(DataError, match="no pair with the others"):
        joined(features_PD, rewards_PM, old, 0)


def test_what_does_not_fit_is_refused():
    features_PD, logits_PM, wins_PM, losses_PM = probe(7)
    with pytest.raises(DataError, match="do not fit"):
        fit_column(features_PD[1:], logits_PM, wins_PM, losses_PM, 0.1)
    with pytest.raises(DataError, match="do not fit"):
        fit_column(features_PD, logits_PM[:, 1:], wins_PM, losses_PM, 0.1)
    with pytest.raises(DataError, match=r"\['Logits'\] hold unknown"):
        fit_column(features_PD, logits_PM * np.nan, wins_PM, losses_PM, 0.1)
    with pytest.raises(DataError, match="no pair"):
        fit_column(features_PD, logits_PM, 0 * wins_PM, 0 * losses_PM, 0.1)
    with pytest.raises(ConfigError, match="l2 is -1"):
        fit_column(features_PD, logits_PM, wins_PM, losses_PM, -1)
    with pytest.raises(ConfigError, match="No l2"):
        choose_l2(features_PD, logits_PM, wins_PM, losses_PM, np.arange(40), ())
    with pytest.raises(DataError, match="do not fit"):
        new_column(features_PD, np.ones((4, 2)), np.ones(4), wins_PM, wins_PM[:, 0], np.arange(40))
