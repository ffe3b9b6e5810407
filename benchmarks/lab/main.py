"""The main experiment: PerSyn beside every baseline, on all seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.measures import (
    Floats,
    accuracies,
    chosen_by,
    differences,
    estimate,
    fits,
    ranking,
    rounded,
    with_before,
)
from lab.world import Lab, Teachers
from persyn_ray.method.allocation import shares
from persyn_ray.storage.layout import PERSYN

BASELINES = ("random", "best_constant", "strong", "mix", "family_strong", "car")
"""What PerSyn is to beat; the others isolate its parts."""
REFERENCES = (*BASELINES, "quality_only", "learnability_only", "knn", "linear_probe", "oracle")


def main(lab: Lab) -> dict[str, Any]:
    """PerSyn and every baseline on all seeds: accuracies, differences, p-values after Holm."""
    chosen = chosen_by(lab, range(lab.num_seeds), (PERSYN, *REFERENCES))
    return compared(lab, chosen, accuracies(lab, chosen), BASELINES)


def compared(
    lab: Lab,
    chosen: dict[str, list[Teachers]],
    correct: dict[str, Floats],
    beaten: Sequence[str],
) -> dict[str, Any]:
    """What students of several methods tell: accuracies, and PerSyn's differences.

    Args:
        beaten: what PerSyn is to be above; their p-values are held together (Holm).
    """
    correct = with_before(lab, correct)
    told = differences(lab, chosen, correct, beaten)
    ratio = correct[PERSYN].mean() / correct["oracle"].mean() if "oracle" in correct else None
    return rounded(
        {
            "max_p_value": max(told["p_after_holm"].values()),
            "oracle_fraction": None if ratio is None else float(ratio),
            **told,
            "allocation": _allocation(lab, chosen),
            "accuracy_by_task": _by_task(lab, correct),
            "routed": _routed(lab),
        }
    )


def _allocation(lab: Lab, chosen: dict[str, list[Teachers]]) -> dict[str, dict[str, float]]:
    names = lab.recipe(0).pool.names
    return {
        method: dict(
            zip(names, np.mean([shares(t, len(names)) for t in some], axis=0).tolist(), strict=True)
        )
        for method, some in chosen.items()
    }


def _by_task(lab: Lab, correct: dict[str, Floats]) -> dict[str, dict[str, float]]:
    tasks = np.array(lab.heldout.prompts["task"].to_pylist())
    return {
        name: {str(task): float(values_SP[:, tasks == task].mean()) for task in np.unique(tasks)}
        for name, values_SP in correct.items()
    }


def _routed(lab: Lab) -> dict[str, Any]:
    """The routers on the held-out problems, which all teachers answered: Hit@1, regret, reward."""
    seeds = range(lab.num_seeds)
    hits, regrets, rewards = [], [], []
    for seed, logits_PM in zip(seeds, lab.logits(fits(lab, seeds)), strict=True):
        hit_P, regret_P, reward_P = ranking(lab, seed, logits_PM[lab.block :])
        hits.append(hit_P)
        regrets.append(regret_P)
        rewards.append(reward_P)
    columns = {"hit_at_1": hits, "regret": regrets, "reward": rewards}
    return {name: estimate(np.stack(rows)) for name, rows in columns.items()}
