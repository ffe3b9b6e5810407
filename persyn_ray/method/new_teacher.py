"""Adds a teacher to a fitted router as a new logit column; the other logits stay unchanged.

    f(x) = w . x + b                                              the new teacher's logit
    loss = - sum_pm [wins_pm log sigma(f(x_p) - o_pm) + losses_pm log sigma(o_pm - f(x_p))] / pairs
           + l2/2 |w|^2,  w in units of one standard deviation of each feature

The old teachers' logits o are fixed, so this is a logistic regression with an offset: convex, and
quick on a probe of some 200 prompts. Features are what the router's head reads; logits are linear
in them, as `o = W x + c`.

Two things are read off the old columns (`new_column`). Their mean is where the new one starts: at a
large l2 the new teacher is as good on every prompt as the average one, give or take a constant. And
a router that was stopped early, or fitted to something else than pairs, is less sure of its pairs
than it could be; a new column that claims what its pairs show would outbid the others wherever it
is good. So old logits are first put on the scale of pair probabilities (divided by the temperature
that suits their own pairs), and the new column is brought back to theirs.

Axes: P prompts, M old teachers, D features, L values of l2. What this does not do: it moves no old
column, and it does not fit new teachers against one another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Booleans, Floats, as_floats
from persyn_ray.method.bradley_terry import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature
from persyn_ray.method.preferences import Ties, preferences

L2_GRID = tuple(10.0 ** (half / 2) for half in range(-8, 3))
BIAS_L2 = 1e-6  # keeps a teacher finite that never lost


@dataclass(frozen=True, eq=False)
class Column:
    """A new teacher's part of a router's head."""

    weight_D: Floats
    bias: float
    l2: float
    temperature: float  # of the old teachers' logits
    num_prompts: int  # with a pair of the new teacher
    num_pairs: int


def new_column(
    features_PD: ArrayLike,
    weights_MD: ArrayLike,
    biases_M: ArrayLike,
    old_rewards_PM: ArrayLike,
    rewards_P: ArrayLike,
    fold_P: ArrayLike,
    ties: Ties = "drop",
) -> Column:
    """A new teacher's column from the prompts where its reward is known (not NaN).

    Args:
        weights_MD: the old teachers' columns, with `biases_M`.
        rewards_P: the new teacher's.
        fold_P: parts of the prompts, by number, over which l2 is cross-validated.

    Raises:
        ConfigError: `ties` is neither drop nor half.
        DataError: shapes do not fit, values are infinite, or there is no pair of the new teacher.
    """
    features_PD, weights_MD = as_floats(features_PD, "Features"), as_floats(weights_MD, "Weights")
    old_PM, new_P = as_floats(old_rewards_PM, "Rewards"), as_floats(rewards_P, "Rewards")
    _require_fit(features_PD, weights_MD, old_PM, new_P)
    wins_PM, losses_PM = _against_old(old_PM, new_P, ties)
    asked_P = (wins_PM + losses_PM).any(axis=1)
    if not asked_P.any():
        raise DataError(
            "A new teacher has no pair with the others: its rewards are unknown or equal to theirs "
            "on every prompt that it shares with them. Ask it more prompts (`num_probe`)."
        )
    wins_PM, losses_PM = wins_PM[asked_P], losses_PM[asked_P]
    probe_PD, fold_P = features_PD[asked_P], np.asarray(fold_P, dtype=np.int64)[asked_P]
    biases_M = as_floats(biases_M, "Biases")
    logits_PM = probe_PD @ weights_MD.T + biases_M
    temperature = _temperature(logits_PM, old_PM[asked_P])
    margins_PM = (logits_PM - logits_PM.mean(axis=1, keepdims=True)) / temperature
    l2 = choose_l2(probe_PD, margins_PM, wins_PM, losses_PM, fold_P)
    weight_D, bias = fit_column(probe_PD, margins_PM, wins_PM, losses_PM, l2)
    return Column(
        weight_D=temperature * weight_D + weights_MD.mean(axis=0),
        bias=temperature * bias + float(biases_M.mean()),
        l2=l2,
        temperature=temperature,
        num_prompts=len(probe_PD),
        num_pairs=round(float((wins_PM + losses_PM).sum())),
    )


def fit_column(
    features_PD: ArrayLike,
    logits_PM: ArrayLike,
    wins_PM: ArrayLike,
    losses_PM: ArrayLike,
    l2: float,
) -> tuple[Floats, float]:
    """The column (weight (D,), bias) with the least loss, in the features' own units.

    Args:
        logits_PM: of the old teachers, fixed.
        wins_PM: weight of the new teacher's wins over each old one, see `preferences`.
        losses_PM: weight of its losses.

    Raises:
        ConfigError: l2 is negative.
        DataError: shapes differ, a value is unknown or infinite, or there is no pair.
    """
    if not l2 >= 0:
        raise ConfigError(f"l2 is {l2}; it must be 0 or more.")
    probe = _known(features_PD, logits_PM, wins_PM, losses_PM)
    mean_D, scale_D = probe.features_PD.mean(axis=0), probe.features_PD.std(axis=0)
    # A feature that does not vary on the probe says nothing; rounding may leave it a tiny spread.
    varies_D = scale_D > 1e-9 * np.abs(mean_D)
    scale_D = np.where(varies_D, scale_D, np.inf)
    scaled_PD = (probe.features_PD - mean_D) / scale_D
    weight_D, bias = _minimise(probe._replace(features_PD=scaled_PD), l2)
    weight_D = weight_D / scale_D
    return weight_D, bias - float(mean_D @ weight_D)


def choose_l2(
    features_PD: ArrayLike,
    logits_PM: ArrayLike,
    wins_PM: ArrayLike,
    losses_PM: ArrayLike,
    fold_P: ArrayLike,
    grid_L: Sequence[float] = L2_GRID,
) -> float:
    """The l2 with the least loss on each fold when fitted on the others; the largest among equals.

    Where fewer than two folds have a pair there is nothing to compare: the largest of the grid.

    Raises:
        ConfigError: the grid is empty or a value is negative.
        DataError: as in `fit_column`.
    """
    if not grid_L:
        raise ConfigError("No l2 to choose from: give at least one.")
    probe = _known(features_PD, logits_PM, wins_PM, losses_PM)
    fold_P = np.asarray(fold_P, dtype=np.int64)
    folds = np.unique(fold_P[(probe.wins_PM + probe.losses_PM).any(axis=1)])
    grid = sorted(grid_L, reverse=True)
    if len(folds) < 2:
        return grid[0]
    return min(grid, key=lambda l2: sum(_loss_on(fold_P == fold, probe, l2) for fold in folds))


class _Probe(NamedTuple):
    """What a column is fitted on; known throughout."""

    features_PD: Floats
    logits_PM: Floats
    wins_PM: Floats
    losses_PM: Floats


def _loss_on(out_P: Booleans, probe: _Probe, l2: float) -> float:
    """Summed loss over the pairs of some prompts, in nats, of the column fitted on the others."""
    weight_D, bias = fit_column(*(array[~out_P] for array in probe), l2=l2)
    out = _Probe(*(array[out_P] for array in probe))
    margins_PM = (out.features_PD @ weight_D + bias)[:, None] - out.logits_PM
    return float(_nats(margins_PM, out).sum())


def _minimise(probe: _Probe, l2: float) -> tuple[Floats, float]:
    # Slow to import, only this function needs it, and it carries no types.
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    minimize = cast(Callable[..., Any], optimize.minimize)  # pyright: ignore[reportUnknownMemberType]
    objective = _Objective(probe, np.append(np.full(probe.features_PD.shape[1], l2), BIAS_L2))
    # Without the curvature (L-BFGS) weakly held columns take hundreds of steps instead of ten.
    found = minimize(
        objective.loss_and_slope,
        np.zeros(len(objective.penalties)),
        jac=True,
        hessp=objective.curvature,
        method="trust-ncg",
        options={"gtol": 1e-8, "maxiter": 1000},
    )
    column = np.asarray(found.x, dtype=np.float64)
    return column[:-1], float(column[-1])


@dataclass(frozen=True, eq=False)
class _Objective:
    """The loss of a column: its weight and, last, its bias."""

    probe: _Probe
    penalties: Floats

    def loss_and_slope(self, column: Floats) -> tuple[float, Floats]:
        wins_PM, losses_PM = self.probe.wins_PM, self.probe.losses_PM
        margins_PM = self._margins(column)
        chance_PM = np.exp(-np.logaddexp(0.0, -margins_PM))
        slope_PM = losses_PM * chance_PM - wins_PM * (1 - chance_PM)
        loss = _nats(margins_PM, self.probe).sum() / (wins_PM + losses_PM).sum()
        penalty = 0.5 * (self.penalties * column**2).sum()
        return float(loss + penalty), self._back(slope_PM) + self.penalties * column

    def curvature(self, column: Floats, way: Floats) -> Floats:
        """The second derivative at a column times a vector."""
        chance_PM = np.exp(-np.logaddexp(0.0, -self._margins(column)))
        pairs_PM = self.probe.wins_PM + self.probe.losses_PM
        along_P1 = (self.probe.features_PD @ way[:-1] + way[-1])[:, None]
        return self._back(pairs_PM * chance_PM * (1 - chance_PM) * along_P1) + self.penalties * way

    def _margins(self, column: Floats) -> Floats:
        return (self.probe.features_PD @ column[:-1] + column[-1])[:, None] - self.probe.logits_PM

    def _back(self, slope_PM: Floats) -> Floats:
        """From slopes in the margins to those in the column, per pair."""
        slope_P = slope_PM.sum(axis=1) / (self.probe.wins_PM + self.probe.losses_PM).sum()
        return np.append(self.probe.features_PD.T @ slope_P, slope_P.sum())


def _nats(margins_PM: Floats, probe: _Probe) -> Floats:
    won_PM = probe.wins_PM * np.logaddexp(0.0, -margins_PM)
    return won_PM + probe.losses_PM * np.logaddexp(0.0, margins_PM)


def _against_old(old_PM: Floats, new_P: Floats, ties: Ties) -> tuple[Floats, Floats]:
    """The new teacher's wins over the old ones and its losses to them, both (P, M)."""
    wins_PMM = preferences(np.column_stack([old_PM, new_P]), ties)
    return wins_PMM[:, -1, :-1], wins_PMM[:, :-1, -1]


def _temperature(logits_PM: Floats, rewards_PM: Floats) -> float:
    """Of the old teachers' own pairs; 1 where they have none, or where no temperature is best."""
    found = fit_temperature(logits_PM, rewards_PM)
    return found if MIN_TEMPERATURE < found < MAX_TEMPERATURE else 1.0


def _known(
    features_PD: ArrayLike, logits_PM: ArrayLike, wins_PM: ArrayLike, losses_PM: ArrayLike
) -> _Probe:
    given = {"Features": features_PD, "Logits": logits_PM, "Wins": wins_PM, "Losses": losses_PM}
    arrays = [as_floats(array, what) for what, array in given.items()]
    shapes = [array.shape for array in arrays]
    is_odd = len({shape[:1] for shape in shapes}) > 1 or len(set(shapes[1:])) > 1
    if is_odd or any(len(shape) != 2 for shape in shapes):
        raise DataError(f"Features (P, D), logits, wins and losses (P, M) do not fit: {shapes}.")
    unknown = [what for what, array in zip(given, arrays, strict=True) if np.isnan(array).any()]
    if unknown:
        raise DataError(f"{unknown} hold unknown values: leave such prompts out, or weigh them 0.")
    probe = _Probe(*arrays)
    if not (probe.wins_PM + probe.losses_PM).any():
        raise DataError("There is no pair to fit a column to: all wins and losses are 0.")
    return probe


def _require_fit(features_PD: Floats, weights_MD: Floats, old_PM: Floats, new_P: Floats) -> None:
    shapes = [features_PD.shape, weights_MD.shape, old_PM.shape, new_P.shape]
    (num_prompts, num_features), num_old = features_PD.shape, len(weights_MD)
    expected = [
        (num_prompts, num_features),
        (num_old, num_features),
        (num_prompts, num_old),
        (num_prompts,),
    ]
    if shapes != expected:
        raise DataError(
            "Features (P, D), weights (M, D), old rewards (P, M) and new ones (P,) do not fit: "
            f"{shapes}."
        )
