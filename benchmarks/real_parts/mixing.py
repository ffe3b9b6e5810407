"""Mixes of base predictors: non-negative weights by what they predict for prompts left out.

Penalties, k and weights are chosen on the parallel set alone. Axes: S splits, N prompts of the
parallel set, P prompts, M teachers, D inputs, K tasks.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from real_tables import Table

from persyn_ray.method.arrays import Booleans, Floats, Integers
from persyn_ray.method.predictors.choose import LabelledRewards
from persyn_ray.method.predictors.effects import effects_of
from persyn_ray.method.predictors.fit import fit_predictor, left_out_interactions, stack_weights
from persyn_ray.method.probes import PROBE_L2_GRID
from real_parts.judging import in_parallel_set, labelled


@dataclass(frozen=True, eq=False)
class Base:
    """One base predictor: interactions for parallel prompts left out of it, and for others."""

    left_out_NM: Floats
    asked_PM: Floats


def own_bases(known: LabelledRewards, asked: LabelledRewards) -> dict[str, Base]:
    """The base predictors of method/predictors/fit.py."""
    left_out = left_out_interactions(known.features, known.rewards_NM, known.folds())
    return {
        kind: Base(
            of_NM,
            fit_predictor(kind, known.features, known.rewards_NM).interactions(asked.features),
        )
        for kind, of_NM in left_out.items()
    }


def ridge(read_ND: Floats, used_PD: Floats, rewards_NM: Floats, folds_N: Integers) -> Base:
    """Ridge on interactions; the penalty of each teacher by leaving each prompt out."""
    left_out_NM = np.zeros(rewards_NM.shape)
    for fold in np.unique(folds_N):
        out_N = folds_N == fold
        left_out_NM[out_N] = _predicted(read_ND[~out_N], rewards_NM[~out_N], read_ND[out_N])
    return Base(left_out_NM, _predicted(read_ND, rewards_NM, used_PD))


def _predicted(read_ND: Floats, rewards_NM: Floats, used_PD: Floats) -> Floats:
    """Interactions of the prompts asked for, (P, M); every reward is known.

    `linear_probe` on the products of prompts in place of those of inputs: there are fewer.
    """
    target_NM = effects_of(rewards_NM).interaction_NM
    num, mean_D = len(read_ND), read_ND.mean(axis=0)
    deviation_D = read_ND.std(axis=0)
    deviation_D = np.where(deviation_D > 1e-12 * np.abs(mean_D), deviation_D, 1.0)
    read_ND, used_PD = (read_ND - mean_D) / deviation_D, (used_PD - mean_D) / deviation_D
    value_N, turn_NN = np.linalg.eigh(read_ND @ read_ND.T / num)
    value_N = np.maximum(value_N, 0.0)
    mean_M = target_NM.mean(axis=0)
    turned_NM = turn_NN.T @ (target_NM - mean_M)
    asked_PN = used_PD @ read_ND.T / num @ turn_NN
    best_M, found_PM = np.full(len(mean_M), np.inf), np.zeros((len(used_PD), len(mean_M)))
    for l2 in sorted(PROBE_L2_GRID, reverse=True):
        kept_N1 = (value_N / (value_N + l2))[:, None]
        residual_NM = target_NM - mean_M - turn_NN @ (kept_N1 * turned_NM)
        leverage_N1 = turn_NN**2 @ kept_N1 + 1 / num
        error_M = ((residual_NM / (1 - leverage_N1)) ** 2).sum(axis=0)
        better_M = error_M < best_M
        found_PM[:, better_M] = asked_PN @ (turned_NM / (value_N + l2)[:, None])[:, better_M]
        best_M = np.minimum(best_M, error_M)
    return found_PM + mean_M


def labels(known: LabelledRewards, asked: LabelledRewards) -> list[Floats]:
    """A column for each task of the parallel set, (N, K) and (P, K)."""
    names = sorted({task for task in known.features.tasks if task is not None})
    return [
        np.array([[task == name for name in names] for task in data.features.tasks], dtype=float)
        for data in (known, asked)
    ]


def routed_mixes(
    known: LabelledRewards,
    asked: LabelledRewards,
    bases: Mapping[str, Base],
    mixes: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Floats], dict[str, dict[str, float]]]:
    """Reward (P,) of each held-out prompt by the constant, each mix and the oracle; their weights.

    A mix of one base predictor takes it as it is; bases that a table does not have are left out.
    """
    effects = effects_of(known.rewards_NM)
    zero_PM = np.zeros(asked.rewards_NM.shape)
    found = {"constant": asked.routed(effects.teacher_M + zero_PM)}
    weights: dict[str, dict[str, float]] = {}
    for mix, parts in mixes.items():
        left_out = {part: bases[part].left_out_NM for part in parts if part in bases}
        weights[mix] = stack_weights(left_out, effects.interaction_NM) if left_out else {}
        used = dict.fromkeys(left_out, 1.0) if len(parts) == 1 else weights[mix]
        total_PM = sum((weight * bases[part].asked_PM for part, weight in used.items()), zero_PM)
        found[mix] = asked.routed(effects.teacher_M + total_PM)
    return found | {"oracle": np.nanmax(asked.rewards_NM, axis=1)}, weights


def over_splits(
    table: Table,
    rewards_PM: Floats,
    num_fit: int,
    num_splits: int,
    make_bases: Callable[[LabelledRewards, LabelledRewards, Booleans], dict[str, Base]],
    mixes: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Floats], dict[str, dict[str, float]]]:
    """Rewards (S, P) by mix, NaN in the parallel set, and the mean weights of each mix."""
    values: dict[str, Floats] = {}
    weights: dict[str, dict[str, list[float]]] = {}
    for split in range(num_splits):
        started = time.perf_counter()
        fit_P = in_parallel_set(table, num_fit, split)
        known = labelled(table.rows(fit_P), rewards_PM[fit_P], split)
        asked = labelled(table.rows(~fit_P), rewards_PM[~fit_P], split)
        routed, of_mixes = routed_mixes(known, asked, make_bases(known, asked, fit_P), mixes)
        for kind, of_P in routed.items():
            values.setdefault(kind, np.full((num_splits, len(table.ids)), np.nan))
            values[kind][split, ~fit_P] = of_P
        for mix, of_mix in of_mixes.items():
            for part, weight in of_mix.items():
                weights.setdefault(mix, {}).setdefault(part, []).append(weight)
        print(f"  {table.name} {split}: {time.perf_counter() - started:.0f} s", flush=True)
    means = {
        mix: {part: round(float(np.mean(all_)), 3) for part, all_ in of.items()}
        for mix, of in weights.items()
    }
    return values, means
