"""Measures whether the router can be believed: calibration, transfer, hedging, novelty.

Temperatures are fitted on one half of the prompts and judged on the other.

Axes: P prompts, M teachers.
"""

from dataclasses import asdict

import numpy as np

from persyn_ray.method import metrics
from persyn_ray.method.allocation import draws, tie_breaks
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.pipeline.results.router_basis import Basis, ranking, subset
from persyn_ray.report.sections.router.claims import (
    CalibrationSummary,
    HedgingPoint,
    NoveltySummary,
)
from persyn_ray.report.sections.router.transfer import Ranking, Transfer
from persyn_ray.shards.tables import shards_of
from persyn_ray.statistics import calibration
from persyn_ray.statistics.hedging import hedging_curve
from persyn_ray.storage.layout import RunLayout

HEDGES_A_TEACHER = 10  # points of the curve for each further teacher


def calibration_of(basis: Basis) -> CalibrationSummary | None:
    """How far the router's pair probabilities can be believed, as they are and after scaling."""
    logits_PM, rewards_PM, seed = basis.logits_PM, basis.measured.rewards_PM, basis.seed
    if not metrics.pairwise_accuracy(logits_PM, rewards_PM)[1].any():
        return None
    found = calibration.calibration(logits_PM, rewards_PM, 1.0, seed)
    fold_P = draws(basis.measured.prompt_ids, [""], seed, "fold")[:, 0] < 0.5
    content: CalibrationSummary = {
        "ece": estimate(found.ece),
        "noise": found.noise,
        "temperature": calibration.fit_temperature(logits_PM, rewards_PM),
        "table": [
            {"confidence": float(confidence), "accuracy": float(accuracy), "num": float(num)}
            for confidence, accuracy, num in zip(*asdict(found.table).values(), strict=True)
        ],
        "scaled_ece": None,
        "scaled_noise": None,
    }
    if fold_P.any() and not fold_P.all():
        scaled = calibration.cross_fitted_ece(logits_PM, rewards_PM, fold_P, seed)
        content["scaled_ece"], content["scaled_noise"] = estimate(scaled.ece), scaled.noise
    return content


def transfer_of(basis: Basis) -> Transfer | None:
    """Routers fitted without a task, or on one alone, on the hold-out prompts of every task."""
    transfer, heldout = basis.fit.transfer, basis.heldout
    if transfer is None:
        return None
    task_P = np.array([task or "" for task in transfer.heldout_tasks])
    tasks = sorted(set(task_P.tolist()) - {""})
    found: dict[str, dict[str, Ranking]] = {}
    named = {_fit_name(fit.fitted_on, tasks): fit.heldout_logits for fit in transfer.fits}
    for name, logits in {"all": basis.fit.heldout_logits[basis.fit.num_fit], **named}.items():
        logits_PM = np.where(basis.able_PM, np.array(logits), np.nan)
        found[name] = {
            task: ranking(
                logits_PM[task_P == task], subset(heldout, task_P == task), basis.names, basis.seed
            )
            for task in tasks
        }
    return {"tasks": tasks, "fits": found}


def _fit_name(fitted_on: list[str], tasks: list[str]) -> str:
    """The report's name of a fit: the task that it is of, or the one that it is without."""
    if len(fitted_on) == 1:
        return fitted_on[0]
    return f"without {', '.join(sorted(set(tasks) - set(fitted_on)))}"


def hedging_of(basis: Basis) -> list[HedgingPoint]:
    """Reward of the best of several responses against how many more are asked for."""
    names, measured = basis.names, basis.measured
    breaks_PM = tie_breaks(measured.prompt_ids, names, basis.seed)
    extra_S = np.linspace(0, len(names) - 1, HEDGES_A_TEACHER * (len(names) - 1) + 1)
    curve = hedging_curve(basis.logits_PM, measured.rewards_PM, extra_S.tolist(), breaks_PM)
    points = zip(curve.extra_S, curve.reward_S, curve.random_S, strict=True)
    return [
        {"extra": float(extra), "reward": float(reward), "random": float(random)}
        for extra, reward, random in points
    ]


def novelty_of(run: RunLayout) -> NoveltySummary | None:
    """Share of prompts unlike the parallel set, by split and by task."""
    flags: dict[str, list[bool]] = {}
    tasks: dict[str, list[bool]] = {}
    for split in ("parallel", "routed", "heldout"):
        for shard in shards_of(run, split):
            if not run.novelty.exists(shard):
                continue
            table = run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
            task_of = {row["prompt_id"]: row["task"] for row in table}
            for row in run.novelty.read_table(shard).to_pylist():
                flags.setdefault(split, []).append(row["is_novel"])
                task = task_of.get(row["prompt_id"])
                if task is not None and split != "parallel":
                    tasks.setdefault(task, []).append(row["is_novel"])
    if not flags:
        return None
    return {
        "by_split": {name: float(np.mean(values)) for name, values in flags.items()},
        "by_task": {name: float(np.mean(values)) for name, values in sorted(tasks.items())},
    }
