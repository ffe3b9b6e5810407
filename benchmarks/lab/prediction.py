"""Does the reward of a data set predict what the student gains by it?

Axes: S seeds, N data sets, M teachers.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lab.measures import Floats, accuracies, before, few, of_chosen, rounded
from lab.world import Lab, Teachers
from persyn_ray.method.baselines import compatibility_adjusted_reward
from persyn_ray.statistics.significance import rank_correlation_over_seeds

NUM_MIXES = 4


def prediction(lab: Lab) -> dict[str, Any]:
    """Does the reward of a data set predict the student's gain? Rank correlations over data sets.

    The data sets of a seed differ in teacher mix only: every constant teacher, and random mixes.
    """
    seeds = few(lab)
    chosen: dict[str, list[Teachers]] = {}
    for m, name in enumerate(lab.recipe(0).pool.names):
        chosen[f"constant {name}"] = [np.full(lab.block, m) for _ in seeds]
    for number in range(NUM_MIXES):
        chosen[f"mix {number}"] = [_random_mix(lab, number, seed) for seed in seeds]
    return predicted_by_signals(lab, chosen, accuracies(lab, chosen, seeds))


def predicted_by_signals(
    lab: Lab, chosen: dict[str, list[Teachers]], correct: dict[str, Floats]
) -> dict[str, Any]:
    """Rank correlations of each signal's mean with the gain, over data sets by name.

    `chosen` and `correct` hold what each of the lab's first seeds has.
    """
    seeds = range(len(next(iter(chosen.values()))))
    start = before(lab).mean()
    gain_SN = np.array([[correct[name][s].mean() - start for name in chosen] for s in seeds])
    signals_SN = _data_set_signals(lab, chosen, seeds)
    return {
        "num_data_sets": len(chosen),
        "data_sets": list(chosen),
        "gain": rounded(gain_SN.tolist()),
        "signals": rounded({name: values.tolist() for name, values in signals_SN.items()}),
        "spearman": {
            name: rounded(asdict(rank_correlation_over_seeds(values_SN, gain_SN, seed=0)))
            for name, values_SN in signals_SN.items()
        },
    }


def _random_mix(lab: Lab, number: int, seed: int) -> Teachers:
    rng = np.random.default_rng((number, seed))
    num_teachers = len(lab.recipe(0).pool)
    weights_M = np.random.default_rng(number).dirichlet(np.full(num_teachers, 0.7))
    return rng.choice(num_teachers, size=lab.block, p=weights_M)


def _data_set_signals(
    lab: Lab, chosen: dict[str, list[Teachers]], seeds: Sequence[int]
) -> dict[str, Floats]:
    """Means of each signal over a data set's responses, (S, N); higher should mean a better one."""
    names = {"quality": 1.0, "log_likelihood": 1.0, "lowest_window": 1.0, "rank_surprisal": -1.0}
    found = {
        name: sign
        * np.array([[of_chosen(lab, name, s, t[s]).mean() for t in chosen.values()] for s in seeds])
        for name, sign in names.items()
    }
    rewards = [lab.bank.rewards(lab.recipe(s), lab.rows(s)).rewards_PM for s in seeds]
    found["reward"] = np.array(
        [
            [np.take_along_axis(rewards[s], t[s][:, None], axis=1).mean() for t in chosen.values()]
            for s in seeds
        ]
    )
    for beta in (0.3, 1.0, 3.0):
        loss_SN = -found["log_likelihood"]
        found[f"car, beta {beta}"] = compatibility_adjusted_reward(found["quality"], loss_SN, beta)
    return found
