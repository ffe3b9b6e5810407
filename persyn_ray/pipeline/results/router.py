"""Collects measures of the router: rankings, calibration, transfer, hedging, baselines.

Figures come from prompts that it was never fitted on: the held-out prompts when all teachers
answered them, otherwise the router's hold-out part of the parallel set (which early stopping has
seen). Temperatures are fitted on one half of these prompts and judged on the other.

Axes: P prompts, M teachers.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from persyn_ray.errors import DataError
from persyn_ray.method import metrics
from persyn_ray.method.allocation import assign, draws, tie_breaks
from persyn_ray.method.arrays import mean_known
from persyn_ray.pipeline.assign.methods import (
    Choices,
    Parallel,
    method_teachers,
    parallel_of,
    settings_of,
)
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.pipeline.results.rewards import prompt_counts
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.content import complete_section
from persyn_ray.report.problems import Problems
from persyn_ray.shards.tables import (
    Rewards,
    column_PM,
    heldout_mask,
    load_embeddings,
    load_rewards,
    shards_of,
)
from persyn_ray.statistics import calibration
from persyn_ray.statistics.hedging import hedging_curve
from persyn_ray.statistics.intervals import bootstrap_difference, bootstrap_mean
from persyn_ray.storage.layout import PERSYN, RunLayout

Content = dict[str, Any]
HEDGES_A_TEACHER = 10  # points of the curve for each further teacher


@dataclass(frozen=True)
class Basis:
    """What every figure of the router is made from."""

    facts: Content
    """What the fit has left."""
    known: Parallel
    """What other methods may learn from."""
    fitted: dict[int, Any]
    """Logits on the router's hold-out part of the parallel set, by the number of prompts that a
    router was fitted on."""
    heldout: Rewards
    """The rewards there."""
    able_PM: Any
    """Who can take a prompt there."""
    measured: Rewards
    """Rewards of the prompts that the figures are of."""
    logits_PM: Any
    """The router's logits on them; NaN for teachers that are no candidate."""
    embeddings_PD: Any
    where: str


def gather_router(recipe: Recipe, run: RunLayout, problems: Problems) -> Content:
    """Section `router` of the report's content; a part that cannot be made is left out.

    Raises:
        DataError, OSError: what all of it is made from is not there.
    """
    basis = _basis(recipe, run)
    measured, logits_PM, facts = basis.measured, basis.logits_PM, basis.facts
    parts: dict[str, tuple[Callable[[], Any], Any]] = {
        "learning_curve": (partial(_learning_curve, recipe, basis), []),
        "calibration": (partial(_calibration, recipe, logits_PM, measured), None),
        "transfer": (partial(_transfer, recipe, facts, basis.heldout, basis.able_PM), None),
        "hedging": (partial(_hedging, recipe, logits_PM, measured), []),
        "novelty": (partial(_novelty, run), None),
        "loss_curve": (partial(_loss_curve, facts), []),
    }
    made = {
        name: problems.attempt(f"router.{name}", make, otherwise)
        for name, (make, otherwise) in parts.items()
    }
    hits_P = metrics.hit_at_k(logits_PM, measured.rewards_PM, 3)
    return {
        "num_fit": facts["num_fit"],
        "num_heldout": len(measured.prompt_ids),
        "heldout_set": basis.where,
        "prompts": prompt_counts(measured.rewards_PM),
        **_ranking(logits_PM, measured, recipe),
        "hit_at_3": estimate(bootstrap_mean(hits_P, recipe.prompts.seed)),
        "chance_at_3": _chance(logits_PM, measured.rewards_PM, 3),
        **made,
        **_references(recipe, basis, problems),
    }


def _basis(recipe: Recipe, run: RunLayout) -> Basis:
    known = parallel_of(recipe.pool, run)
    parallel = known.signals
    facts = run.router.read_json("fit.json")
    out_P = heldout_mask(parallel.prompt_ids, recipe.router.heldout_fraction, recipe.router.seed)
    if not out_P.any() and not recipe.compare.heldout:
        raise DataError(
            f"No prompt of the parallel set ({len(out_P)} prompts) is left to judge the router on: "
            "raise prompts.num_parallel."
        )
    heldout = _subset(parallel, out_P)
    able_PM = np.isfinite(_routed_logits(run, "parallel"))[out_P]
    fitted = {
        int(size): np.where(able_PM, np.reshape(logits, able_PM.shape), np.nan)
        for size, logits in facts["heldout_logits"].items()
    }
    measured, logits_PM, where = heldout, fitted[facts["num_fit"]], "router hold-out"
    if recipe.compare.heldout:
        measured, logits_PM = _heldout(recipe, run)
        embeddings_PD, where = load_embeddings(run, shards_of(run, "heldout")), "held-out prompts"
    else:
        known, embeddings_PD = _apart(known, out_P)
    return Basis(facts, known, fitted, heldout, able_PM, measured, logits_PM, embeddings_PD, where)


def _loss_curve(facts: Content) -> Any:
    return complete_section("router", {"loss_curve": facts["loss_curve"]})["loss_curve"]


def _learning_curve(recipe: Recipe, basis: Basis) -> list[Content]:
    return [
        {"num_parallel": size, **_ranking(logits_PM, basis.heldout, recipe)}
        for size, logits_PM in sorted(basis.fitted.items())
    ]


def _chance(logits_PM: Any, rewards_PM: Any, k: int) -> float:
    """Hit@k of a draw among the teachers that can take each prompt, in the mean over prompts."""
    return mean_known(metrics.chance_at_k(rewards_PM, k, ~np.isnan(logits_PM)))


def _apart(known: Parallel, out_P: Any) -> tuple[Parallel, Any]:
    """The parallel set without the router's hold-out part, and that part's embeddings.

    Baselines learn from what the router was fitted on; a nearest neighbour would find itself.
    """
    embeddings_PD, signals = known.embeddings_PD, _subset(known.signals, ~out_P)
    if embeddings_PD is None:
        return replace(known, signals=signals), None
    fitted = replace(known, signals=signals, embeddings_PD=embeddings_PD[~out_P])
    return fitted, embeddings_PD[out_P]


def _subset(rewards: Rewards, chosen_P: Any) -> Rewards:
    ids = tuple(name for name, keep in zip(rewards.prompt_ids, chosen_P, strict=True) if keep)
    return Rewards(
        ids,
        rewards.learnability_PM[chosen_P],
        rewards.quality_PM[chosen_P],
        rewards.rewards_PM[chosen_P],
    )


def _heldout(recipe: Recipe, run: RunLayout) -> tuple[Rewards, Any]:
    rewards = load_rewards(run, shards_of(run, "heldout"), len(recipe.pool))
    return rewards, _routed_logits(run, "heldout")


def _routed_logits(run: RunLayout, split: str) -> Any:
    """The router's logits, shard after shard; NaN for teachers that are no candidate."""
    tables = [run.logits.read_table(shard) for shard in shards_of(run, split)]
    parts = [
        np.where(column_PM(table, "candidates") == 1, column_PM(table, "logits"), np.nan)
        for table in tables
    ]
    return np.concatenate(parts)


def _ranking(logits_PM: Any, rewards: Rewards, recipe: Recipe) -> Content:
    """Hit@1, regret and pairwise accuracy, each with its interval over prompts."""
    seed = recipe.prompts.seed
    teacher_P, _ = assign(logits_PM, tie_breaks(rewards.prompt_ids, recipe.pool.names, seed))
    accuracy = calibration.accuracy_interval(logits_PM, rewards.rewards_PM, seed)
    hits_P = metrics.hit_at_k(logits_PM, rewards.rewards_PM, 1)
    return {
        "hit_at_1": estimate(bootstrap_mean(hits_P, seed)),
        "chance_at_1": _chance(logits_PM, rewards.rewards_PM, 1),
        "regret": estimate(bootstrap_mean(metrics.regret(rewards.rewards_PM, teacher_P), seed)),
        "pairwise_accuracy": estimate(accuracy),
    }


def _references(recipe: Recipe, basis: Basis, problems: Problems) -> Content:
    """Reward, regret and Hit@1 of every method on the same prompts, and paired differences."""
    seed, rewards_PM = recipe.prompts.seed, basis.measured.rewards_PM
    ids, able_PM = basis.measured.prompt_ids, ~np.isnan(basis.logits_PM)
    choices = Choices(ids, basis.logits_PM, able_PM, basis.measured, basis.embeddings_PD)
    chosen: dict[str, Any] = {}
    settings = settings_of(recipe)
    for method in (PERSYN, *recipe.compare.methods):
        choose = partial(method_teachers, method, settings, choices, basis.known)
        found = problems.attempt(f"router.references.{method}", choose, None)
        if found is not None:
            chosen[method] = found[0]
    routed = {
        name: metrics.routed_reward(rewards_PM, teachers) for name, teachers in chosen.items()
    }
    references = {
        name: {
            "reward": estimate(bootstrap_mean(routed[name], seed)),
            "regret": estimate(bootstrap_mean(metrics.regret(rewards_PM, teacher_P), seed)),
            "hit_at_1": estimate(bootstrap_mean(metrics.hits(rewards_PM, teacher_P), seed)),
        }
        for name, teacher_P in chosen.items()
    }
    differences = {
        name: estimate(bootstrap_difference(routed[PERSYN], of, seed))
        for name, of in routed.items()
        if name != PERSYN and PERSYN in routed
    }
    return {"references": references, "differences": differences}


def _calibration(recipe: Recipe, logits_PM: Any, measured: Rewards) -> Content | None:
    """How far the router's pair probabilities can be believed, as they are and after scaling."""
    seed, rewards_PM = recipe.prompts.seed, measured.rewards_PM
    if not metrics.pairwise_accuracy(logits_PM, rewards_PM)[1].any():
        return None
    found = calibration.calibration(logits_PM, rewards_PM, 1.0, seed)
    fold_P = draws(measured.prompt_ids, [""], seed, "fold")[:, 0] < 0.5
    content: Content = {
        "ece": estimate(found.ece),
        "noise": found.noise,
        "temperature": calibration.fit_temperature(logits_PM, rewards_PM),
        "table": [
            dict(zip(("confidence", "accuracy", "num"), map(float, row), strict=True))
            for row in zip(*asdict(found.table).values(), strict=True)
        ],
        "scaled_ece": None,
        "scaled_noise": None,
    }
    if fold_P.any() and not fold_P.all():
        scaled = calibration.cross_fitted_ece(logits_PM, rewards_PM, fold_P, seed)
        content |= {"scaled_ece": estimate(scaled.ece), "scaled_noise": scaled.noise}
    return content


def _transfer(recipe: Recipe, facts: Content, heldout: Rewards, able_PM: Any) -> Content | None:
    """Routers fitted without a task, or on one alone, on the hold-out prompts of every task."""
    fits = facts.get("transfer")
    if not fits:
        return None
    task_P = np.array([task or "" for task in fits["heldout_tasks"]])
    tasks = sorted(set(task_P.tolist()) - {""})
    found: Content = {}
    whole = {"fitted_on": None, "heldout_logits": facts["heldout_logits"][str(facts["num_fit"])]}
    for fit in [whole, *fits["fits"]]:
        logits_PM = np.where(able_PM, np.array(fit["heldout_logits"]), np.nan)
        found[_fit_name(fit["fitted_on"], tasks)] = {
            task: _ranking(logits_PM[task_P == task], _subset(heldout, task_P == task), recipe)
            for task in tasks
        }
    return {"tasks": tasks, "fits": found}


def _fit_name(fitted_on: list[str] | None, tasks: list[str]) -> str:
    """The report's name of a fit: the task that it is of, or the one that it is without."""
    if fitted_on is None:
        return "all"
    if len(fitted_on) == 1:
        return fitted_on[0]
    return f"without {', '.join(sorted(set(tasks) - set(fitted_on)))}"


def _hedging(recipe: Recipe, logits_PM: Any, measured: Rewards) -> list[Content]:
    """Reward of the best of several responses against how many more are asked for."""
    names = recipe.pool.names
    breaks_PM = tie_breaks(measured.prompt_ids, names, recipe.prompts.seed)
    extra_S = np.linspace(0, len(names) - 1, HEDGES_A_TEACHER * (len(names) - 1) + 1)
    curve = hedging_curve(logits_PM, measured.rewards_PM, extra_S.tolist(), breaks_PM)
    points = zip(curve.extra_S, curve.reward_S, curve.random_S, strict=True)
    return [
        dict(zip(("extra", "reward", "random"), map(float, point), strict=True)) for point in points
    ]


def _novelty(run: RunLayout) -> Content | None:
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
