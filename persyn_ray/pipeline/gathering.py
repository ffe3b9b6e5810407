"""Gather what a finished run measured into the content of report.json
(persyn_ray/report/content.py).
"""

import os
from collections import Counter
from typing import Any

import numpy as np

from persyn_ray import rows
from persyn_ray.config import Recipe
from persyn_ray.layout import BEFORE, PERSYN, Run, parts_of
from persyn_ray.method import baselines, metrics
from persyn_ray.method.allocation import tie_breaks
from persyn_ray.method.intervals import bootstrap_difference, bootstrap_mean, wilson
from persyn_ray.method.preferences import count_preferences
from persyn_ray.pipeline.choices import assigned_methods, students
from persyn_ray.pipeline.constraining import gather_constraints
from persyn_ray.pipeline.costs import dead_letters, tokens
from persyn_ray.pipeline.estimates import estimate
from persyn_ray.pipeline.expecting import mean_student_tokens
from persyn_ray.pipeline.explaining import state
from persyn_ray.pipeline.forecast import forecast_against_actual
from persyn_ray.pipeline.gathering_router import gather_router
from persyn_ray.schemas import QUALITY, RESPONSES
from persyn_ray.stages.store import existing, scores_of
from persyn_ray.stages.tables import (
    Rewards,
    load_rewards,
    shards_of,
)
from persyn_ray.stages.work import checks_and_models

Content = dict[str, Any]
ALPHAS = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())


def gather(recipe: Recipe, run: Run, versions: dict[str, str]) -> Content:
    """Everything the report shows; sections of steps not yet done are null."""
    records = dict(state(run))
    content: Content = {"run": _run(recipe, records, versions), "timing": _timing(records)}
    content["forecast"] = forecast_against_actual(recipe, run, records)
    if records["prompts"] is not None:
        content["prompts"] = _prompts(records["prompts"].counts)
        content["dead_letters"] = dead_letters(run)
    if records["rewards"] is not None:
        parallel = load_rewards(run, shards_of(run, "parallel"), len(recipe.pool))
        content["reward"] = _reward(recipe, run, parallel)
        content["alpha_sweep"] = _alpha_sweep(recipe, parallel)
        if records["route"] is not None:
            content["allocation"] = _allocation(recipe, run, parallel, records["route"].counts)
            content["router"] = gather_router(recipe, run)
            content["constraints"] = gather_constraints(records["route"], records["synthesize"])
    if records["synthesize"] is not None:
        content["examples"] = {"methods": records["synthesize"].counts.get("examples", {})}
        content["tokens"] = tokens(recipe, run)
    if records["evaluate"] is not None and students(recipe) and shards_of(run, "heldout"):
        content["student"] = _student(recipe, run, records)
    return content


def _run(recipe: Recipe, records: dict[str, Any], versions: dict[str, str]) -> Content:
    done = [record for record in records.values() if record is not None]
    return {
        "name": recipe.name or recipe.run.rstrip("/").rsplit("/", 1)[-1],
        "recipe": recipe.model_dump(mode="json"),
        "fingerprint": done[-1].fingerprint if done else None,
        "created": done[-1].finished if done else None,
        "versions": versions,
        "hardware": {
            "cpus": os.cpu_count(),
            "memory_gib": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
            ),
            "gpus": None,
        },
        "student": recipe.student.name,
        "learnability_kind": recipe.scoring.learnability,
        "quality_kind": " + ".join(part.quality.kind for part in parts_of(recipe)),
        "alpha": recipe.scoring.alpha,
        "scaling": recipe.scoring.scaling,
        "seed": recipe.prompts.seed,
    }


def _timing(records: dict[str, Any]) -> Content:
    steps = [
        {"step": name, "seconds": record.seconds, "rows": record.counts.get("rows")}
        for name, record in records.items()
        if record is not None
    ]
    return {"steps": steps, "total_seconds": round(sum(step["seconds"] for step in steps), 1)}


def _prompts(counts: Content) -> Content:
    splits = counts["splits"]
    return {
        "num_loaded": counts["rows"] + counts["duplicates"] + counts["errors"],
        "num_duplicates": counts["duplicates"],
        "num_parallel": splits["parallel"],
        "num_routed": splits["routed"],
        "num_heldout": splits["heldout"],
    }


def _mean_known(values: Any) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _reward(recipe: Recipe, run: Run, parallel: Rewards) -> Content:
    seed, counts = recipe.prompts.seed, count_preferences(parallel.rewards_PM)
    lengths, endings = mean_student_tokens(recipe, run), _endings(recipe, run)
    teachers = {
        name: {
            "mean_reward": estimate(bootstrap_mean(parallel.rewards_PM[:, m], seed)),
            "mean_quality": _mean_known(parallel.quality_PM[:, m]),
            "mean_learnability": _mean_known(parallel.learnability_PM[:, m]),
            "mean_tokens": lengths[name],
            "num_null": int(np.isnan(parallel.rewards_PM[:, m]).sum()),
            "num_truncated": endings[name]["length"],
            "num_looped": endings[name]["loop"],
        }
        for m, name in enumerate(recipe.pool)
    }
    preferences = {
        "num_pairs": counts.num_pairs,
        "num_ties": counts.num_ties,
        "num_null": counts.num_null_teachers,
        "num_prompts_without_pairs": counts.num_prompts_without_pairs,
    }
    return {"measured_on": "parallel set", "teachers": teachers, "preferences": preferences}


def _endings(recipe: Recipe, run: Run) -> dict[str, Counter[str]]:
    """How often each teacher's responses on the parallel set ended in which way."""
    found: dict[str, Counter[str]] = {name: Counter() for name in recipe.pool}
    for teacher in recipe.teachers:
        for shard in shards_of(run, "parallel"):
            prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
            table = existing(run.responses(teacher), shard, RESPONSES)
            table = rows.among(table, "prompt_id", prompt_ids)
            found[teacher.name].update(table["finish_reason"].to_pylist())
    return found


def _alpha_sweep(recipe: Recipe, parallel: Rewards) -> Content:
    scoring, names = recipe.scoring, recipe.pool.names
    sweep = metrics.alpha_sweep(
        parallel.quality_PM,
        parallel.learnability_PM,
        ALPHAS,
        scoring.scaling,
        tie_breaks(parallel.prompt_ids, names, recipe.prompts.seed),
        scoring.alpha,
    )
    points = [
        {
            "alpha": float(alpha),
            "shares": dict(zip(names, map(float, sweep.shares_AM[a]), strict=True)),
            "agreement": float(sweep.agreement_A[a]),
            "mean_quality": float(sweep.mean_quality_A[a]),
            "mean_learnability": float(sweep.mean_learnability_A[a]),
        }
        for a, alpha in enumerate(sweep.alphas_A)
    ]
    return {"reference_alpha": scoring.alpha, "points": points}


def _allocation(recipe: Recipe, run: Run, parallel: Rewards, counts: Content) -> Content:
    names, seed = recipe.pool.names, recipe.prompts.seed
    best_P = baselines.oracle(parallel.rewards_PM, tie_breaks(parallel.prompt_ids, names, seed))
    oracle = np.bincount(best_P[best_P >= 0], minlength=len(names))
    return {
        "teachers": list(names),
        "methods": {m: _shares(assigned) for m, assigned in counts["assigned"].items()},
        "parallel_set_oracle": _shares(dict(zip(names, map(int, oracle), strict=True))),
        "by_task": _by_task(recipe, run),
    }


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def _by_task(recipe: Recipe, run: Run) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, int]] = {}
    for shard in shards_of(run, "parallel", "routed"):
        table = run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
        task_of = {row["prompt_id"]: row["task"] for row in table}
        for row in run.assignment(PERSYN).read_table(shard).to_pylist():
            task = task_of[row["prompt_id"]]
            if task is not None:
                of_task = counts.setdefault(task, dict.fromkeys(recipe.pool.names, 0))
                of_task[row["teacher"]] += 1
    return {task: _shares(count) for task, count in sorted(counts.items())}


def _student(recipe: Recipe, run: Run, records: dict[str, Any]) -> Content:
    """Accuracy of the student before and after, on the same problems."""
    correct: dict[str, dict[str, float]] = {}
    for student in students(recipe):
        answers = [row for _, t in run.evaluations(student).tables() for row in t.to_pylist()]
        # An answer that is not there is a wrong one; only a check that gave no verdict is unknown.
        correct[student] = {
            row["prompt_id"]: 0.0 if row["outcome"] == "no_response" else row["correct"]
            for row in answers
            if row["correct"] is not None or row["outcome"] == "no_response"
        }
    ids = sorted(correct[BEFORE])
    values = {name: np.array([of.get(i, np.nan) for i in ids]) for name, of in correct.items()}
    facts = records["finetune"].counts["students"]
    shares = {method: _correct_share(recipe, run, method) for method in assigned_methods(recipe)}
    return {
        "metric": "accuracy",
        "num_problems": len(ids),
        "before": _accuracy(values[BEFORE]),
        "methods": {
            method: {
                **_accuracy(values[method]),
                "num_examples": facts[method]["num_examples"],
                "correct_share": shares[method],
            }
            for method in assigned_methods(recipe)
        },
        "differences": {
            name: estimate(bootstrap_difference(values[PERSYN], of, recipe.prompts.seed))
            for name, of in values.items()
            if name != PERSYN
        },
        "by_task": _accuracy_by_task(run, values, ids),
    }


def _accuracy(values_P: Any) -> Content:
    known = values_P[~np.isnan(values_P)]
    return estimate(wilson(float(known.sum()), known.size))


def _accuracy_by_task(run: Run, values: dict[str, Any], ids: list[str]) -> Content:
    task_of = {
        row["prompt_id"]: row["task"]
        for shard in shards_of(run, "heldout")
        for row in run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
    }
    tasks = np.array([task_of[name] or "" for name in ids])
    return {
        student: {
            str(task): _mean_known(of[tasks == task]) for task in sorted(set(tasks.tolist()) - {""})
        }
        for student, of in values.items()
        if (tasks != "").any()
    }


def _correct_share(recipe: Recipe, run: Run, method: str) -> float | None:
    """Share of right answers in a method's data, where the verdicts of its responses are stored.

    Only a single check gives verdicts: a score, a grade or a weighted mean is no share.
    """
    checks, models = checks_and_models(recipe)
    if models or len(checks) != 1:
        return None
    known: list[float] = []
    for shard, table in run.examples(method).tables():
        chosen = set(zip(table["prompt_id"].to_pylist(), table["teacher"].to_pylist(), strict=True))
        for teacher in recipe.teachers:
            responses = existing(run.responses(teacher), shard, RESPONSES)
            verdicts = scores_of(run.quality(recipe, teacher, checks[0]), shard, QUALITY, responses)
            known += [
                row["quality"]
                for row in verdicts.to_pylist()
                if (row["prompt_id"], teacher.name) in chosen and row["quality"] is not None
            ]
    return float(np.mean(known)) if known else None
