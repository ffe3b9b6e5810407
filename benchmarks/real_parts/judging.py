"""Routes held-out prompts of a table by every kind of predictor, over splits: figures out.

Axes: S splits, P prompts, N prompts of the parallel set, M teachers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from real_tables import Table

from persyn_ray.method.allocation import draws, shares
from persyn_ray.method.arrays import mean_known
from persyn_ray.method.predictors.choose import LabelledRewards, chosen_of, left_out_scores
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import available, fit_predictor
from persyn_ray.method.rewards import combine
from persyn_ray.statistics.significance import paired_difference

ALPHA = 0.4
SEED = 0
NUM_RESAMPLES = 4000
SIMPLE = ("per_task", "knn")


def labelled(table: Table, rewards_PM: np.ndarray, seed: int) -> LabelledRewards:
    """A table as predictors take it."""
    features = PromptFeatures(table.tasks, table.embeddings_PD)
    return LabelledRewards(table.ids, table.teachers, features, rewards_PM, seed)


def rewards_of(table: Table) -> dict[str, np.ndarray]:
    """Rewards (P, M) by signal."""
    found = {"correct": table.scores_PM}
    if table.learnability_PM is not None:
        found["reward"] = combine(table.scores_PM, table.learnability_PM, ALPHA, "minmax")
    return found


def in_parallel_set(table: Table, num: int, split: int) -> np.ndarray:
    """Which prompts a split puts into the parallel set, by hash."""
    drawn_P = draws(table.ids, ["split"], split, "evidence")[:, 0]
    return drawn_P.argsort(kind="stable").argsort(kind="stable") < num


def routed_by_kind(known: LabelledRewards, asked: LabelledRewards) -> dict[str, np.ndarray]:
    """Reward of each held-out prompt by each kind, and by `auto`; the oracle's beside them."""
    left_out = left_out_scores(known)
    auto = chosen_of({kind: known.routed(of_NM) for kind, of_NM in left_out.items()}).kind
    folds_N = known.folds()
    found = {
        kind: asked.routed(
            fit_predictor(kind, known.features, known.rewards_NM, folds_N).scores(asked.features)
        )
        for kind in available(known.features)
    }
    return found | {"auto": found[auto], "oracle": np.nanmax(asked.rewards_NM, axis=1)}


def judged(table: Table, rewards_PM: np.ndarray, num_fit: int, num_splits: int) -> dict[str, Any]:
    """Figures of one table and signal."""
    values: dict[str, list[np.ndarray]] = {}
    for split in range(num_splits):
        fit_P = in_parallel_set(table, num_fit, split)
        known = labelled(table.rows(fit_P), rewards_PM[fit_P], split)
        asked = labelled(table.rows(~fit_P), rewards_PM[~fit_P], split)
        started = time.perf_counter()
        for kind, of_P in routed_by_kind(known, asked).items():
            whole_P = np.full(len(table.ids), np.nan)
            whole_P[~fit_P] = of_P
            values.setdefault(kind, []).append(whole_P)
        print(f"  {table.name} split {split}: {time.perf_counter() - started:.0f} s", flush=True)
    stacked = {kind: np.array(of) for kind, of in values.items()}
    rules = [kind for kind in SIMPLE if kind in stacked]
    pairs = [
        (kind, other)
        for kind in ("stacked", "auto", *rules)
        if kind in stacked
        for other in ("constant", *rules)
        if other != kind
    ]
    told = summary(stacked, pairs)
    best = max(rules or ["constant"], key=lambda kind: told["means"][kind])
    return {"num_fit": num_fit, "best_simple_rule": best} | told


def summary(values: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Means, shares of the gap from the constant to the oracle, and differences with intervals.

    Args:
        values: by kind, (S, P), NaN where a prompt was in the parallel set.
    """
    means = {kind: mean_known(of) for kind, of in values.items()}
    gap = means["oracle"] - means["constant"]
    return {
        "means": {kind: round(mean, 4) for kind, mean in means.items()},
        "gap_closed": {
            kind: round((mean - means["constant"]) / gap, 4) if gap > 0 else None
            for kind, mean in means.items()
        },
        "minus": {
            f"{kind}_minus_{other}": asdict(
                paired_difference(values[kind], values[other], SEED, NUM_RESAMPLES)
            )
            for kind, other in pairs
        },
    }


def learning_curve(table: Table, rewards_PM: np.ndarray, sizes: Sequence[int], num: int) -> Any:
    """Gain of the best-per-task table over the constant, by parallel prompts (mean over splits)."""
    found: dict[int, float] = {}
    for size in sizes:
        gains: list[float] = []
        for split in range(num):
            fit_P = in_parallel_set(table, size, split)
            out_P = ~in_parallel_set(table, max(sizes), split)
            known = labelled(table.rows(fit_P), rewards_PM[fit_P], split)
            asked = labelled(table.rows(out_P), rewards_PM[out_P], split)
            per_task, constant = (
                asked.routed(
                    fit_predictor(
                        kind if kind in available(known.features) else "constant",
                        known.features,
                        known.rewards_NM,
                    ).scores(asked.features)
                )
                for kind in ("per_task", "constant")
            )
            gains.append(mean_known(per_task - constant))
        found[size] = round(float(np.mean(gains)), 4)
    return found


def by_task(table: Table, rewards_PM: np.ndarray, fit_P: np.ndarray) -> np.ndarray:
    """The teacher of each held-out prompt by a best-per-task table."""
    known, asked = table.rows(fit_P), table.rows(~fit_P)
    kind = "per_task" if len(set(known.tasks)) > 1 else "constant"
    fitted = fit_predictor(kind, PromptFeatures(known.tasks), rewards_PM[fit_P])
    return fitted.scores(PromptFeatures(asked.tasks)).argmax(axis=1)


def allocation(table: Table, rewards_PM: np.ndarray, num_fit: int) -> dict[str, float]:
    """Shares of the held-out prompts that the best-per-task table gives each teacher."""
    chosen_P = by_task(table, rewards_PM, in_parallel_set(table, num_fit, 0))
    found = shares(chosen_P, len(table.teachers))
    return dict(zip(table.teachers, found.round(4).tolist(), strict=True))


def moved_by_signal(table: Table, num_fit: int, num_splits: int) -> dict[str, Any]:
    """What a best-per-task table gets when it goes by one signal, and what the oracle would get.

    Each is told in correctness and, where it is on file, in learnability (nats per token).
    """
    measured = {"correct": table.scores_PM}
    if table.learnability_PM is not None:
        measured["learnability"] = table.learnability_PM
    goes_by = rewards_of(table) | measured
    found: dict[str, Any] = {}
    for signal, of_PM in goes_by.items():
        told: dict[str, list[float]] = {}
        for split in range(num_splits):
            fit_P = in_parallel_set(table, num_fit, split)
            choices = {
                "per_task": by_task(table, of_PM, fit_P),
                "oracle": of_PM[~fit_P].argmax(axis=1),
            }
            for (how, chosen_P), (what, got_PM) in (
                (choice, got) for choice in choices.items() for got in measured.items()
            ):
                got_P = got_PM[~fit_P][np.arange(len(chosen_P)), chosen_P]
                told.setdefault(f"{how}: {what}", []).append(float(got_P.mean()))
        found[signal] = {name: round(float(np.mean(of)), 4) for name, of in told.items()}
    return found
