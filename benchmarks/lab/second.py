"""The second world: PerSyn beside rules that go by one signal alone, by neighbours, or by task.

Its recipe is `jobs/second_world.yaml`. Students are tuned in two rounds, those that its claims are
about first, so that a run whose time is over can tell of whole methods.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.bank import OutOfTime
from lab.main import BASELINES, compared
from lab.measures import Floats, accuracies, chosen_by, means_of_data, of_chosen, rounded
from lab.world import Lab, Teachers
from persyn_ray.lab.scripted import is_short
from persyn_ray.lab.tasks import read
from persyn_ray.storage.layout import PERSYN

CLAIMS = ("quality_only", "learnability_only", "knn")
"""What the world was made to tell PerSyn from."""
OTHERS = ("oracle", "task_constant", "linear_probe", *BASELINES)
BEATEN = (*CLAIMS, "task_constant", "linear_probe", *BASELINES)
"""Over all of these the p-values are held together (Holm)."""


def routing(lab: Lab) -> dict[str, Any]:
    """What each method chooses, before any student is tuned: right or not, and how likely."""
    chosen = _chosen(lab)
    return {
        "correct_share": rounded(means_of_data(lab, chosen, "quality")),
        "right_by_length": _right_by_length(lab, chosen),
        "mean_log_likelihood": rounded(means_of_data(lab, chosen, "log_likelihood")),
        "teachers": _teachers(lab),
        "like_the_oracle": _like_the_oracle(lab, chosen),
    }


def second(lab: Lab) -> dict[str, Any]:
    """Students of PerSyn and of every reference on all seeds, as far as the time allows.

    Raises:
        OutOfTime: the time did not allow those that the claims are about.
    """
    chosen = _chosen(lab)
    correct = accuracies(lab, {name: chosen[name] for name in (PERSYN, *CLAIMS)})
    correct |= _in_time(lab, {name: chosen[name] for name in OTHERS})
    measured = {name: some for name, some in chosen.items() if name in correct}
    beaten = [name for name in BEATEN if name in correct]
    missing = [name for name in chosen if name not in correct]
    return {**compared(lab, measured, correct, beaten), "not_measured": missing}


def _chosen(lab: Lab) -> dict[str, list[Teachers]]:
    return chosen_by(lab, range(lab.num_seeds), (PERSYN, *CLAIMS, *OTHERS))


def _in_time(lab: Lab, chosen: dict[str, list[Teachers]]) -> dict[str, Floats]:
    """Correct answers by method, of those whose students are there on all seeds."""
    try:
        return accuracies(lab, chosen)
    except OutOfTime:
        done = {name: some for name, some in chosen.items() if _is_tuned(lab, some)}
        return accuracies(lab, done) if done else {}


def _is_tuned(lab: Lab, teachers: Sequence[Teachers]) -> bool:
    return all(lab.is_tuned(lab.tuning(seed, of)) for seed, of in enumerate(teachers))


def _right_by_length(lab: Lab, chosen: dict[str, list[Teachers]]) -> dict[str, dict[str, float]]:
    """Share of right responses in each method's data, on short and on long problems."""
    short_P = np.array(
        [problem is not None and is_short(problem) for problem in map(read, lab.texts)]
    )
    found: dict[str, dict[str, float]] = {}
    for name, some in chosen.items():
        right_P = np.concatenate([of_chosen(lab, "quality", s, t) for s, t in enumerate(some)])
        found[name] = {
            "short": float(right_P[short_P].mean()),
            "long": float(right_P[~short_P].mean()),
        }
    return rounded(found)


def _teachers(lab: Lab) -> dict[str, dict[str, float | None]]:
    """Of each teacher: share of right responses, and their likelihood, right and wrong ones."""
    found: dict[str, dict[str, float | None]] = {}
    for m, name in enumerate(lab.recipe(0).pool.names):
        right_P = lab.bank.signals["quality"][:, m] == 1
        likelihood_P = lab.bank.signals["log_likelihood"][:, m]
        found[name] = {
            "right": float(right_P.mean()),
            "log_likelihood_right": float(likelihood_P[right_P].mean()),
            "log_likelihood_wrong": float(likelihood_P[~right_P].mean()) if any(~right_P) else None,
        }
    return rounded(found)


def _like_the_oracle(lab: Lab, chosen: dict[str, list[Teachers]]) -> dict[str, dict[str, Any]]:
    """Share of prompts outside the parallel set on which a method's teacher has the best reward."""
    found: dict[str, dict[str, Any]] = {}
    for name, some in chosen.items():
        hits = []
        for seed, teacher_P in enumerate(some):
            rewards_PM = lab.bank.rewards(lab.recipe(seed), lab.rows(seed)).rewards_PM
            taken_P = np.take_along_axis(rewards_PM, teacher_P[:, None], axis=1)[:, 0]
            is_best_P = taken_P == rewards_PM.max(axis=1)
            hits.append(float(is_best_P[lab.num_parallel :].mean()))
        found[name] = {"mean": float(np.mean(hits)), "by_seed": hits}
    return rounded(found)
