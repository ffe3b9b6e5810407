"""Collects what the seeds of a comparison measured into the content of comparison.json.

Axes: S seeds, P problems. A problem that a seed was not judged on is NaN there.

Accuracy is compared problem by problem. Routed reward is one mean a seed: its interval is over
seeds, or over the prompts of the only seed there is, as that seed's report has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import mean_or_none
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.report.comparison.content import ACCURACY, REWARD
from persyn_ray.report.content import Report, complete
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.router.ranking import RouterSummary
from persyn_ray.statistics.significance import Difference, holm, mean_over_seeds, paired_difference
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout

Content = dict[str, Any]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Seeds:
    """The finished seeds of a comparison."""

    name: str
    """Title of the comparison."""
    runs: Mapping[int, RunLayout]
    """By the seed of the prompts."""
    compare: CompareConfig
    """The same in every seed."""
    students: tuple[str, ...]
    """Of each seed; their answers are compared where they can be checked."""
    seed: int
    """Of resampling."""


def gather_comparison(seeds: Seeds, why_no_students: str | None) -> Content:
    """All that the comparison shows, from finished seeds; what cannot be read of them is left out,
    with its reason under `problems`.

    Args:
        why_no_students: what keeps students from being compared; then routed rewards are.
    """
    problems, compare = Problems(), seeds.compare
    found = {
        name: problems.attempt(name, partial(_report, run), None)
        for name, run in ((f"seeds.{seed}", run) for seed, run in seeds.runs.items())
    }
    reports = [report for report in found.values() if report is not None]
    for name, report in found.items():
        for part, reason in (report["problems"] if report else {}).items():
            problems.reasons[f"{name}.{part}"] = reason
    routers = _routers(reports)
    content: Content = {
        "name": seeds.name,
        "why_no_students": why_no_students,
        "seeds": [{"seed": seed, "run": run.root.address} for seed, run in seeds.runs.items()],
        "rewarded_on": routers[0]["heldout_set"] if routers else None,
        "metric": ACCURACY if why_no_students is None else REWARD,
    }
    names = (PERSYN, *compare.methods)
    routed: Content = problems.attempt(
        "routed_reward", partial(_routed, reports, names, seeds.seed), {}
    )
    if why_no_students is None:
        judge = partial(_accuracies, tuple(seeds.runs.values()), seeds.students, seeds.seed)
        accuracies, counts = problems.attempt("accuracy", judge, ({}, {}))
        content |= counts
        methods = {
            name: facts
            | {"routed_reward": routed.get(name, {}).get("mean")}
            | _data(reports, name, assigned_methods(compare))
            for name, facts in accuracies.items()
        }
    else:
        methods = {name: facts | {"routed_reward": facts["mean"]} for name, facts in routed.items()}
    adjusted_for = problems.attempt("p_values", partial(_adjust, methods), [])
    return content | {
        "methods": methods,
        "adjusted_for": adjusted_for,
        "problems": problems.reasons,
    }


def _report(run: RunLayout) -> Report:
    return complete(run.root.read_json("report.json"))


def correct_answers(
    runs: Sequence[RunLayout], names: Sequence[str]
) -> tuple[dict[str, Floats], Booleans]:
    """Whether each student's answers are right (1 or 0), shape (S, P), and which were asked for.

    Problems are in the order of their ids.
    """
    answers = {name: [_answers(run, name) for run in runs] for name in names}
    ids = sorted({prompt_id for seeds in answers.values() for of in seeds for prompt_id in of})
    correct = {
        name: np.array([[of.get(i, nan) for i in ids] for of in seeds], dtype=np.float64)
        for name, seeds in answers.items()
    }
    asked_SP = np.array([[i in of for i in ids] for of in answers[PERSYN]], dtype=np.bool_)
    return correct, asked_SP


def _answers(run: RunLayout, student: str) -> dict[str, float]:
    """An answer that is not there is a wrong one; without a verdict it is unknown."""
    columns = ["prompt_id", "outcome", "correct"]
    found: dict[str, float] = {}
    for _, table in run.evaluations(student).tables(columns):
        for row in table.to_pylist():
            known = nan if row["correct"] is None else row["correct"]
            found[row["prompt_id"]] = 0.0 if row["outcome"] == "no_response" else known
    return found


def _accuracies(
    runs: Sequence[RunLayout], names: Sequence[str], seed: int
) -> tuple[dict[str, Content], Content]:
    """Accuracy of every student, PerSyn's minus it, and what they were judged on."""
    correct, asked_SP = correct_answers(runs, names)
    if not asked_SP.size:
        raise DataError("no answer of PerSyn's students to held-out problems is there.")
    facts = {name: _compared(name, correct, seed) for name in names}
    for one in facts.values():  # few seeds give Student's intervals that know no bounds
        _keep_within(one["mean"], 0.0)
        _keep_within(one["difference"], -1.0)
    return facts, {
        "num_problems": asked_SP.shape[1],
        "same_problems": bool(asked_SP.all()),
    }


def _keep_within(found: Content | None, least: float) -> None:
    """Cut an interval down to values that there are: from `least` to 1."""
    if found is not None:
        found |= {name: float(np.clip(found[name], least, 1.0)) for name in ("low", "high")}


def _compared(name: str, values: Mapping[str, Floats], seed: int) -> Content:
    """Mean of a method over seeds and columns, each seed's own, and PerSyn's minus it."""
    values_SP = values[name]
    return {
        "mean": estimate(mean_over_seeds(values_SP, seed)),
        "by_seed": [mean_or_none(values_P) for values_P in values_SP],
        "difference": None
        if name == PERSYN
        else _tested(paired_difference(values[PERSYN], values_SP, seed)),
    }


def _routed(reports: Sequence[Report], methods: Sequence[str], seed: int) -> dict[str, Content]:
    """Routed reward of every method, one mean a seed, and PerSyn's minus it."""
    routers = _routers(reports)
    if not routers:
        raise DataError("no seed has figures of its router.")
    if len(routers) == 1:
        return _routed_by_one(routers[0], methods)
    means = {
        method: np.array([[_reward(router, method)] for router in routers], dtype=np.float64)
        for method in methods
    }
    return {method: _compared(method, means, seed) for method in methods}


def _routed_by_one(router: RouterSummary, methods: Sequence[str]) -> dict[str, Content]:
    """The same of a single seed: intervals are over its prompts, and there are no p-values."""
    facts: dict[str, Content] = {}
    for method in methods:
        difference = router["differences"].get(method)
        facts[method] = {
            "mean": _routed_reward(router, method),
            "by_seed": [_reward(router, method)],
            "difference": difference
            and {name: difference[name] for name in ("value", "low", "high")}
            | {"num_seeds": 1, "num_problems": difference["num"]},
        }
    return facts


def _routers(reports: Sequence[Report]) -> list[RouterSummary]:
    return [report["router"] for report in reports if report["router"] is not None]


def _data(reports: Sequence[Report], method: str, assigned: Sequence[str]) -> Content:
    """What a method's data is like, as means over seeds; there is none before fine-tuning."""
    if method not in assigned:
        return {}
    of_seeds = [report["student"]["methods"].get(method) for report in reports if report["student"]]
    found = [facts for facts in of_seeds if facts is not None]
    return {
        "correct_share": _mean([facts["correct_share"] for facts in found]),
        "num_examples": _mean([facts["num_examples"] for facts in found]),
    }


def _adjust(methods: dict[str, Content]) -> list[str]:
    """Add p-values adjusted by Holm's correction; returns what it counts: all but `before`."""
    tested = {
        name: facts["difference"]["p_value"]
        for name, facts in methods.items()
        if name != BEFORE and facts["difference"] and facts["difference"].get("p_value") is not None
    }
    for name, p_value in holm(tested).items():
        methods[name]["difference"]["p_holm"] = p_value
    return list(tested)


def _tested(difference: Difference) -> Content:
    """A difference in the form of the content."""
    facts = asdict(difference)
    facts["value"] = facts.pop("mean")
    return facts | {"p_value": None if np.isnan(facts["p_value"]) else facts["p_value"]}


def _routed_reward(router: RouterSummary, method: str) -> Estimate | None:
    reference = router["references"].get(method)
    return None if reference is None else reference["reward"]


def _reward(router: RouterSummary, method: str) -> float:
    """Mean routed reward of a method in one seed; NaN where it is unknown."""
    found = _routed_reward(router, method)
    return nan if found is None or found["value"] is None else found["value"]


def _mean(values: Sequence[float | None]) -> float | None:
    return mean_or_none(np.array(values, np.float64))
