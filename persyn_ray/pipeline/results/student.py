"""Collects the students' evaluation: accuracy before and after, on the same problems."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from persyn_ray.data.response_text import is_loop
from persyn_ray.method.arrays import mean_or_none
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.student import AnswerForm, Benchmark, LmEval, Student
from persyn_ray.shards.part_files import all_rows, existing
from persyn_ray.shards.response_store import scores_of
from persyn_ray.shards.score import checks_and_models
from persyn_ray.shards.tables import shards_of
from persyn_ray.statistics.distinct import distinct_n
from persyn_ray.statistics.intervals import bootstrap_difference, wilson
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout
from persyn_ray.storage.results import EvaluateResult, TunedStudent
from persyn_ray.storage.schemas import EVALUATIONS, QUALITY, RESPONSES

Floats = NDArray[np.float64]


Verdicts = Mapping[str, tuple[Folder, Folder]]
"""By teacher, where its responses and their verdicts are filed; empty without a single check."""


def verdicts_of(
    run: RunLayout, teachers: Sequence[TeacherConfig], scoring: ScoringConfig
) -> Verdicts:
    """Where verdicts are filed, if quality is one check: scores, grades and weighted means say of
    no response that it is right.
    """
    checks, models = checks_and_models(scoring)
    if models or len(checks) != 1:
        return {}
    return {
        teacher.name: (run.responses(teacher), run.quality(teacher, checks[0]))
        for teacher in teachers
    }


@dataclass(frozen=True)
class Tuned:
    """What the students were tuned on."""

    facts: Mapping[str, TunedStudent]
    """Of each student's training, by method."""
    verdicts: Verdicts
    loop_repeats: int = 8
    """A passage said so often in a row at the end of an answer is repetition without end."""


def gather_student(
    run: RunLayout, names: Sequence[str], seed: int, tuned: Tuned, problems: Problems
) -> Student | None:
    """Section `student`; None without held-out problems.

    Args:
        names: of the students, see `choices.students`.
        seed: of resampling.
    """
    if not shards_of(run, "heldout"):
        return None
    correct = {name: _answers(run, name) for name in names}
    ids = sorted(set().union(*correct.values()))
    values = {name: np.array([of.get(i, np.nan) for i in ids]) for name, of in correct.items()}
    is_share = any(((of != 0) & (of != 1) & ~np.isnan(of)).any() for of in values.values())
    return {
        "metric": "score" if is_share else "accuracy",
        "num_problems": len(ids),
        "before": _accuracy(values[BEFORE]),
        "methods": {
            method: {
                **_accuracy(values[method]),
                "num_examples": tuned.facts[method].num_examples if method in tuned.facts else None,
                "correct_share": problems.attempt(
                    f"student.{method}.correct_share",
                    partial(_correct_share, run, method, tuned.verdicts),
                    None,
                ),
            }
            for method in names
            if method != BEFORE
        },
        "differences": {
            name: estimate(bootstrap_difference(values[PERSYN], of, seed))
            for name, of in values.items()
            if name != PERSYN
        },
        "by_task": problems.attempt(
            "student.by_task", partial(_accuracy_by_task, run, values, ids), {}
        ),
        "answers": problems.attempt(
            "student.answers",
            lambda: {name: _form_of_answers(run, name, tuned.loop_repeats) for name in names},
            {},
        ),
    }


def _form_of_answers(run: RunLayout, student: str, loop_repeats: int) -> AnswerForm:
    """How a student's answers end, how long they are and how much they vary."""
    rows = all_rows(run.evaluations(student), EVALUATIONS).to_pylist()
    texts = [row["response"] or "" for row in rows]
    words = [text.split() for text in texts]
    num = len(rows)

    def share(which: Iterable[bool]) -> float | None:
        return sum(which) / num if num else None

    return {
        "num": num,
        "cut_share": share(row["finish_reason"] == "length" for row in rows),
        "looped_share": share(is_loop(text, loop_repeats) for text in texts),
        "mean_words": sum(map(len, words)) / num if num else None,
        "longest_words": max(map(len, words), default=None),
        "distinct_1": distinct_n(words, 1),
        "distinct_2": distinct_n(words, 2),
    }


def gather_lm_eval(found: EvaluateResult) -> LmEval | None:
    """Section `lm_eval`: what the evaluation harness measured; None where it was not asked."""
    if not found.lm_eval:
        return None
    tasks: dict[str, dict[str, dict[str, Benchmark]]] = {}
    for student, of_tasks in found.lm_eval.items():
        for task, values in of_tasks.items():
            for name, value in values.items():
                if "_stderr" in name:
                    continue
                kind, mark, form = name.partition(" ")
                error = values.get(f"{kind}_stderr{mark}{form}")
                of = tasks.setdefault(task, {}).setdefault(name, {})
                of[student] = {"value": value, "stderr": error}
    return {"students": list(found.lm_eval), "tasks": tasks}


def _answers(run: RunLayout, student: str) -> dict[str, float]:
    """Whether each answer is right, by prompt; unknown verdicts are left out.

    An answer that is not there is a wrong one; only a check that gave no verdict is unknown.
    """
    answers = all_rows(run.evaluations(student), EVALUATIONS).to_pylist()
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


def _correct_share(run: RunLayout, method: str, filed: Verdicts) -> float | None:
    """Share of right answers in a method's data; None unless a verdict on all of it is stored, as
    responses to the parallel set, which the router was fitted on, do not stand for the others.
    """
    verdicts: list[float | None] = []
    num_chosen = 0
    for shard in shards_of(run, "parallel", "routed") if filed else ():
        table = run.examples(method).read_table(shard)
        chosen = set(zip(table["prompt_id"].to_pylist(), table["teacher"].to_pylist(), strict=True))
        num_chosen += len(chosen)
        for teacher, (stored, folder) in filed.items():
            found = scores_of(folder, shard, QUALITY, existing(stored, shard, RESPONSES))
            verdicts += [
                row["quality"] for row in found.to_pylist() if (row["prompt_id"], teacher) in chosen
            ]
    known = [verdict for verdict in verdicts if verdict is not None]
    return float(np.mean(known)) if known and len(verdicts) == num_chosen else None
