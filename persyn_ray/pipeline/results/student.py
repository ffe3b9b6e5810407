"""Collects the students' evaluation: accuracy before and after, on the same problems."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.method.arrays import mean_or_none
from persyn_ray.pipeline.choices import assigned_methods, students
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.student import Student
from persyn_ray.shards.response_store import existing, scores_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.work import checks_and_models
from persyn_ray.statistics.intervals import bootstrap_difference, wilson
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout
from persyn_ray.storage.schemas import QUALITY, RESPONSES

Floats = NDArray[np.float64]


def gather_student(
    recipe: Recipe, run: RunLayout, facts: Mapping[str, Any], problems: Problems
) -> Student | None:
    """Section `student`; None without held-out problems.

    Args:
        facts: of each student's training, by method.
    """
    if not shards_of(run, "heldout"):
        return None
    correct = {name: _answers(run, name) for name in students(recipe)}
    ids = sorted(set().union(*correct.values()))
    values = {name: np.array([of.get(i, np.nan) for i in ids]) for name, of in correct.items()}
    checks, models = checks_and_models(recipe.scoring)
    verdicts_of: dict[str, tuple[Folder, Folder]] = {}
    if not models and len(checks) == 1:  # scores, grades and weighted means are no shares
        verdicts_of = {
            teacher.name: (run.responses(teacher), run.quality(teacher, checks[0]))
            for teacher in recipe.teachers
        }
    methods = assigned_methods(recipe.compare)
    return {
        "metric": "accuracy",
        "num_problems": len(ids),
        "before": _accuracy(values[BEFORE]),
        "methods": {
            method: {
                **_accuracy(values[method]),
                "num_examples": facts.get(method, {}).get("num_examples"),
                "correct_share": problems.attempt(
                    f"student.{method}.correct_share",
                    partial(_correct_share, run, method, verdicts_of),
                    None,
                ),
            }
            for method in methods
        },
        "differences": {
            name: estimate(bootstrap_difference(values[PERSYN], of, recipe.prompts.seed))
            for name, of in values.items()
            if name != PERSYN
        },
        "by_task": problems.attempt(
            "student.by_task", partial(_accuracy_by_task, run, values, ids), {}
        ),
    }


def _answers(run: RunLayout, student: str) -> dict[str, float]:
    """Whether each answer is right, by prompt; unknown verdicts are left out.

    An answer that is not there is a wrong one; only a check that gave no verdict is unknown.
    """
    answers = [row for _, t in run.evaluations(student).tables() for row in t.to_pylist()]
    return {
        row["prompt_id"]: 0.0 if row["outcome"] == "no_response" else row["correct"]
        for row in answers
        if row["correct"] is not None or row["outcome"] == "no_response"
    }


def _accuracy(values_P: Floats) -> Estimate:
    known = values_P[~np.isnan(values_P)]
    return estimate(wilson(float(known.sum()), known.size))


def _accuracy_by_task(
    run: RunLayout, values: dict[str, Floats], ids: list[str]
) -> dict[str, dict[str, float | None]]:
    task_of = {
        row["prompt_id"]: row["task"]
        for shard in shards_of(run, "heldout")
        for row in run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
    }
    tasks = np.array([task_of.get(name) or "" for name in ids])
    return {
        student: {
            str(task): mean_or_none(of[tasks == task])
            for task in sorted(set(tasks.tolist()) - {""})
        }
        for student, of in values.items()
        if (tasks != "").any()
    }


def _correct_share(
    run: RunLayout, method: str, verdicts_of: Mapping[str, tuple[Folder, Folder]]
) -> float | None:
    """Share of right answers in a method's data, where the verdicts of its responses are stored.

    Args:
        verdicts_of: by teacher, its responses and their verdicts; none without a single check.
    """
    known: list[float] = []
    for shard, table in run.examples(method).tables() if verdicts_of else ():
        chosen = set(zip(table["prompt_id"].to_pylist(), table["teacher"].to_pylist(), strict=True))
        for teacher, (stored, folder) in verdicts_of.items():
            verdicts = scores_of(folder, shard, QUALITY, existing(stored, shard, RESPONSES))
            known += [
                row["quality"]
                for row in verdicts.to_pylist()
                if (row["prompt_id"], teacher) in chosen and row["quality"] is not None
            ]
    return float(np.mean(known)) if known else None
