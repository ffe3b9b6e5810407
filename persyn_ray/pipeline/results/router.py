"""Collects measures of the router: its rankings, and beside them those of other methods.

Axes: P prompts, M teachers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from persyn_ray.method import metrics
from persyn_ray.pipeline.assign.methods import (
    Choices,
    MethodSettings,
    Teachers,
    method_teachers,
    parallel_of,
)
from persyn_ray.pipeline.results import router_claims
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.pipeline.results.rewards import prompt_counts
from persyn_ray.pipeline.results.router_basis import Basis, basis_of, chance, ranking
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.loss_curves import loss_points
from persyn_ray.report.sections.router.kind import KindGain, RouterKind
from persyn_ray.report.sections.router.ranking import (
    LearningPoint,
    Reference,
    RouterSummary,
)
from persyn_ray.statistics.intervals import bootstrap_difference, bootstrap_mean
from persyn_ray.storage.fits import KindEstimate, RouterFit
from persyn_ray.storage.layout import PERSYN, RunLayout


def gather_router(
    run: RunLayout, config: RouterConfig, settings: MethodSettings, problems: Problems
) -> RouterSummary:
    """Section `router` of the report's content; a part that cannot be made is left out.

    Raises:
        DataError, OSError: what all of it is made from is not there.
    """
    compare, pool = settings.compare, settings.pool
    basis = basis_of(
        run,
        parallel_of(pool, run),
        config,
        compare.heldout,
        settings.seed,
        pool.names,
    )
    choices = _choices(basis)

    def choose(method: str) -> Teachers:
        return method_teachers(method, settings, choices, basis.known)[0]

    # The true rewards of these prompts are known, so the oracle can always stand beside the others.
    methods = tuple(dict.fromkeys((PERSYN, *compare.methods, "oracle")))
    return _section(run, basis, methods, choose, problems)


def _choices(basis: Basis) -> Choices:
    """The prompts that the figures are of, as a method sees them."""
    able_PM = ~np.isnan(basis.logits_PM)
    ids = basis.measured.prompt_ids
    return Choices(
        ids, basis.logits_PM, able_PM, basis.measured, basis.embeddings_PD, tasks=basis.tasks
    )


def _section(
    run: RunLayout,
    basis: Basis,
    methods: Sequence[str],
    choose: Callable[[str], Teachers],
    problems: Problems,
) -> RouterSummary:
    measured, logits_PM = basis.measured, basis.logits_PM
    made = {
        name: problems.attempt(f"router.{name}", make, otherwise)
        for name, (make, otherwise) in _parts(run, basis).items()
    }
    hits_P = metrics.hit_at_k(logits_PM, measured.rewards_PM, 3)
    references, differences = _references(basis, methods, choose, problems)
    return {
        "kind": _kind(basis.fit),
        "num_fit": basis.fit.num_fit,
        "num_heldout": len(measured.prompt_ids),
        "heldout_set": basis.where,
        "prompts": prompt_counts(measured.rewards_PM),
        **ranking(logits_PM, measured, basis.names, basis.seed),
        "hit_at_3": estimate(bootstrap_mean(hits_P, basis.seed)),
        "chance_at_3": chance(logits_PM, measured.rewards_PM, 3),
        "loss_curve": loss_points(basis.fit.loss_curve),
        "learning_curve": made["learning_curve"],
        "calibration": made["calibration"],
        "transfer": made["transfer"],
        "hedging": made["hedging"],
        "novelty": made["novelty"],
        "references": references,
        "differences": differences,
    }


def _parts(run: RunLayout, basis: Basis) -> dict[str, tuple[Callable[[], Any], Any]]:
    """What may fail by itself: how it is made, and what stands in its place."""
    return {
        "learning_curve": (partial(_learning_curve, basis), []),
        "calibration": (partial(router_claims.calibration_of, basis), None),
        "transfer": (partial(router_claims.transfer_of, basis), None),
        "hedging": (partial(router_claims.hedging_of, basis), []),
        "novelty": (partial(router_claims.novelty_of, run), None),
    }


def _kind(fit: RouterFit) -> RouterKind:
    found: RouterKind = {
        "kind": fit.kind,
        "told": fit.told,
        "why": None,
        "num_prompts": None,
        "kinds": [],
    }
    if (compared := fit.compared) is not None:
        kinds: list[KindGain] = [
            {"kind": one.kind, "gain": _gain(one, compared.num_prompts), "told": one.told}
            for one in compared.kinds
        ]
        found["why"], found["num_prompts"] = compared.why, compared.num_prompts
        found["kinds"] = kinds
    return found


def _gain(one: KindEstimate, num_prompts: int) -> Estimate | None:
    if one.gain is None:
        return None
    return {"value": one.gain, "low": one.low, "high": one.high, "num": num_prompts}


def _learning_curve(basis: Basis) -> list[LearningPoint]:
    return [
        {"num_parallel": size, **ranking(logits_PM, basis.heldout, basis.names, basis.seed)}
        for size, logits_PM in sorted(basis.fitted.items())
    ]


def _references(
    basis: Basis, methods: Sequence[str], choose: Callable[[str], Teachers], problems: Problems
) -> tuple[dict[str, Reference], dict[str, Estimate]]:
    """Reward, regret and Hit@1 of every method on the same prompts, and paired differences.

    Args:
        choose: a method's teacher for each of these prompts.
    """
    seed, rewards_PM = basis.seed, basis.measured.rewards_PM
    attempted = {
        method: problems.attempt(f"router.references.{method}", partial(choose, method), None)
        for method in methods
    }
    chosen = {name: teacher_P for name, teacher_P in attempted.items() if teacher_P is not None}
    routed = {
        name: metrics.routed_reward(rewards_PM, teachers) for name, teachers in chosen.items()
    }
    references: dict[str, Reference] = {
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
    return references, differences
