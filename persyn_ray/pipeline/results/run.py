"""Collects what a run measured into the content of report.json (report/content.py).

Each section is gathered by itself: one that cannot be made is null, and its reason stands under
`problems`.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar, cast

import numpy as np

from persyn_ray.method import baselines
from persyn_ray.method.allocation import tie_breaks
from persyn_ray.pipeline.assign.constrained import gather_constraints
from persyn_ray.pipeline.assign.methods import ResponseSettings, response_settings, tasks_of
from persyn_ray.pipeline.choices import students
from persyn_ray.pipeline.dataset import contaminated_rows
from persyn_ray.pipeline.integrity.missing_tables import missing_tables, table_settings
from persyn_ray.pipeline.integrity.recovery import Damage, find_damage
from persyn_ray.pipeline.plan.forecasts.steps import forecast_against_actual
from persyn_ray.pipeline.results.costs import dead_letters, spending, tokens
from persyn_ray.pipeline.results.rewards import (
    gather_alpha_sweep,
    gather_reward,
    gather_variance,
    response_facts,
)
from persyn_ray.pipeline.results.router import gather_router
from persyn_ray.pipeline.results.student import Tuned, gather_lm_eval, gather_student, verdicts_of
from persyn_ray.pipeline.results.training import gather_training
from persyn_ray.pipeline.steps import STEPS, Step
from persyn_ray.recipe.recipe import Recipe, shown
from persyn_ray.recipe.scoring import QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.content import complete_section
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.allocation import Allocation, Shares
from persyn_ray.report.sections.examples import Examples
from persyn_ray.report.sections.rewards import Reward
from persyn_ray.report.sections.run import Prompts, RunSummary
from persyn_ray.report.sections.student import Student
from persyn_ray.report.sections.timing import StepTime, Timing, Training
from persyn_ray.report.sections.tokens import Spending
from persyn_ray.report.sections.variance import Variance
from persyn_ray.shards.tables import Rewards, load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.results import (
    EvaluateResult,
    FinetuneResult,
    PromptsResult,
    RouteResult,
    ScoreResult,
    StepResult,
    SynthesizeResult,
    TunedStudent,
    result_of,
)

LOOP_REPEATS = 8
"""What counts as repetition without end where `responses.loop_repeats` says nothing."""
MOST_LISTED = 20
"""Examples that overlap with problems of evaluation, in the report; the run's table has all."""
Content = dict[str, Any]
Records = dict[str, Record | None]
Sections = dict[str, tuple[tuple[str, ...], Callable[[], Any]]]

_Result = TypeVar("_Result", bound=StepResult)


def gather(recipe: Recipe, run: RunLayout, versions: dict[str, str]) -> Content:
    """Everything the report shows; sections of steps not yet done are null."""
    problems = Problems()
    records = _readable_records(run, problems)
    content: Content = {}
    for name, (steps, make) in _sections(recipe, run, records, problems, versions).items():
        unreadable = [problems.reasons[r] for r in map(_record, steps) if r in problems.reasons]
        if unreadable:
            problems.reasons[name] = unreadable[0]
        elif all(records[step] is not None for step in steps):
            checked = partial(_checked, name, make)
            content[name] = problems.attempt(name, checked, None)
    missing_tables(table_settings(recipe), run, records, problems)
    _name_damaged(partial(find_damage, run, recipe.teachers, recipe.compare), problems)
    return content | {"problems": problems.reasons}


def _name_damaged(find: Callable[[], Iterable[Damage]], problems: Problems) -> None:
    """Name stored tables that cannot be read: their rows count as absent above."""
    for damage in problems.attempt("tables", lambda: list(find()), []):
        problems.reasons.setdefault(f"tables/{damage.name}", str(damage.reason))


def _readable_records(run: RunLayout, problems: Problems) -> Records:
    """Every step's record, None where there is none or it cannot be read."""
    names = [step.name for step in STEPS]
    read = {step.name: partial(_readable, run, step) for step in STEPS}
    found = {name: problems.attempt(_record(name), one, None) for name, one in read.items()}
    done = [place for place, name in enumerate(names) if found[name] is not None]
    for name in names[: done[-1] if done else 0]:
        if found[name] is None and _record(name) not in problems.reasons:
            problems.reasons[_record(name)] = (
                f"{name}.json is not there, although later steps are done; "
                f"`persyn run RECIPE --from {name}` makes it anew."
            )
    return found


def _readable(run: RunLayout, step: Step) -> Record | None:
    """A step's record, once it is known to hold a result of the step."""
    record = read_record(run.records, step.name)
    if record is not None:
        result_of(record, step.result)
    return record


def _record(step: str) -> str:
    return f"records.{step}"


def _checked(name: str, make: Callable[[], Any]) -> Any:
    """A section that fits its documentation, which a damaged record may not."""
    return complete_section(name, make())


def _sections(
    recipe: Recipe, run: RunLayout, records: Records, problems: Problems, versions: dict[str, str]
) -> Sections:
    """Each section with the steps that it needs, and how it is made."""
    names, seed = recipe.pool.names, recipe.prompts.seed
    by_task = partial(problems.attempt, "allocation.by_task", partial(_by_task, run, names), {})

    @cache
    def parallel() -> Rewards:
        return load_rewards(run, shards_of(run, "parallel"), len(recipe.pool))

    parts = parts_of(recipe.scoring)
    paid = partial(_spending, recipe.teachers, parts, run, records["score"])
    asked, both = response_settings(recipe), ("rewards", "route")
    hour_dollars = recipe.hardware.gpu_hour_dollars
    found: Sections = {
        "run": ((), lambda: _run(recipe, records, versions)),
        "timing": ((), lambda: _timing(records)),
        "forecast": (
            (),
            lambda: forecast_against_actual(recipe.teachers, hour_dollars, run, records),
        ),
        "prompts": (("prompts",), lambda: _prompts(_result(records, PromptsResult))),
        "dead_letters": (("prompts",), lambda: dead_letters(asked, parts, run)),
        "reward": (("rewards",), lambda: _reward(asked, run, parallel(), problems)),
        "alpha_sweep": (
            ("rewards",),
            lambda: gather_alpha_sweep(parallel(), names, recipe.scoring, seed),
        ),
        "allocation": (
            ("rewards", "route"),
            lambda: _allocation(parallel(), names, seed, _assigned(records), by_task),
        ),
        "router": (both, lambda: gather_router(run, recipe.router, asked.methods, problems)),
        "constraints": (
            ("rewards", "route"),
            lambda: gather_constraints(_known(records, "route"), records["synthesize"]),
        ),
        "examples": (("synthesize",), lambda: _examples(run, _result(records, SynthesizeResult))),
        "tokens": (("synthesize",), lambda: tokens(asked, recipe.measures_learnability, run)),
        "spending": ((), paid),
        "training": (("finetune",), lambda: gather_training(_tuned(records))),
        "lm_eval": (("evaluate",), lambda: gather_lm_eval(_result(records, EvaluateResult))),
    }
    if students(recipe.compare, recipe.evaluate, recipe.scoring):
        found["student"] = (
            ("prompts", "finetune", "evaluate"),
            lambda: _student(recipe, run, _tuned(records), problems),
        )
    return found


def _reward(
    asked: ResponseSettings, run: RunLayout, parallel: Rewards, problems: Problems
) -> Reward:
    facts = response_facts(run, asked.teachers, asked.responses, parallel, problems)
    found = gather_reward(parallel, facts, asked.methods.pool.names, asked.methods.seed)

    def variance() -> Variance | None:
        return gather_variance(
            parallel, tasks_of(run, shards_of(run, "parallel"), parallel.prompt_ids)
        )

    found["variance"] = problems.attempt("reward.variance", variance, None)
    return found


def _student(
    recipe: Recipe, run: RunLayout, facts: Mapping[str, TunedStudent], problems: Problems
) -> Student | None:
    names = students(recipe.compare, recipe.evaluate, recipe.scoring)
    verdicts = verdicts_of(run, recipe.teachers, recipe.scoring)
    tuned = Tuned(facts, verdicts, recipe.responses.loop_repeats or LOOP_REPEATS)
    return gather_student(run, names, recipe.prompts.seed, tuned, problems)


def _spending(
    teachers: Sequence[TeacherConfig],
    parts: Sequence[QualityPartConfig],
    run: RunLayout,
    score: Record | None,
) -> Spending | None:
    num_ungraded = None if score is None else result_of(score, ScoreResult).over_budget
    return spending(teachers, parts, run.ledger, num_ungraded)


def _known(records: Records, step: str) -> Record:
    record = records[step]
    assert record is not None, f"a section that reads the record of {step} needs it"
    return record


def _result(records: Records, kind: type[_Result]) -> _Result:
    return result_of(_known(records, kind.step), kind)


def _tuned(records: Records) -> dict[str, TunedStudent]:
    return _result(records, FinetuneResult).students


def _assigned(records: Records) -> dict[str, dict[str, int]]:
    return _result(records, RouteResult).assigned


def _run(recipe: Recipe, records: Records, versions: dict[str, str]) -> RunSummary:
    done = [record for record in records.values() if record is not None]
    return {
        "name": recipe.name or recipe.run.rstrip("/").rsplit("/", 1)[-1],
        "recipe": shown(recipe),
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
        "quality_kind": " + ".join(part.quality.kind for part in parts_of(recipe.scoring)),
        "alpha": recipe.scoring.alpha,
        "scaling": recipe.scoring.scaling,
        "seed": recipe.prompts.seed,
    }


def _timing(records: Records) -> Timing:
    done = {
        step.name: (record, result_of(record, step.result))
        for step in STEPS
        if (record := records[step.name]) is not None
    }
    steps: list[StepTime] = [
        {"step": name, "seconds": record.seconds, "rows": found.rows}
        for name, (record, found) in done.items()
    ]
    total_seconds = round(sum(record.seconds for record, _ in done.values()), 1)
    tuned = done["finetune"][1] if "finetune" in done else FinetuneResult()
    assert isinstance(tuned, FinetuneResult)
    trainings = {method: _training(of) for method, of in tuned.students.items() if of.speed}
    return {"steps": steps, "total_seconds": total_seconds, "trainings": trainings}


def _training(tuned: TunedStudent) -> Training:
    speed = tuned.speed
    assert speed is not None, "only timed trainings are shown"
    return {
        "seconds": speed.seconds,
        "steps": tuned.num_steps,
        "response_tokens_per_second": speed.response_tokens_per_second,
        "tokens_per_second": speed.tokens / speed.seconds,
        "mfu": tuned.mfu,
        "mfu_unknown": tuned.mfu_unknown,
    }


def _prompts(found: PromptsResult) -> Prompts:
    return {
        "num_loaded": found.rows + found.duplicates + found.errors,
        "num_duplicates": found.duplicates,
        "num_parallel": found.splits["parallel"],
        "num_routed": found.splits["routed"],
        "num_heldout": found.splits["heldout"],
    }


def _examples(run: RunLayout, found: SynthesizeResult) -> Examples:
    return {
        "methods": {
            method: {
                "kept": of.kept,
                "without_response": of.without_response,
                "truncated": of.truncated,
                "looped": of.looped,
                "without_teacher": of.without_teacher,
                "kept_truncated": of.kept_truncated,
                "reassigned": of.reassigned,
                "wrong": of.wrong,
                "contaminated": of.contaminated,
                "left_out": of.left_out,
                "extra": {name: cast(Any, one.model_dump()) for name, one in of.extra.items()},
            }
            for method, of in found.examples.items()
        },
        "contaminated": contaminated_rows(run, PERSYN).slice(0, MOST_LISTED).to_pylist(),
    }


def _allocation(
    parallel: Rewards,
    names: Sequence[str],
    seed: int,
    assigned: dict[str, dict[str, int]],
    by_task: Callable[[], dict[str, Shares]],
) -> Allocation:
    best_P = baselines.oracle(parallel.rewards_PM, tie_breaks(parallel.prompt_ids, names, seed))
    oracle = np.bincount(best_P[best_P >= 0], minlength=len(names))
    return {
        "teachers": list(names),
        "methods": {method: _shares(counts) for method, counts in assigned.items()},
        "parallel_set_oracle": _shares(dict(zip(names, map(int, oracle), strict=True))),
        "by_task": by_task(),
    }


def _shares(counts: dict[str, int]) -> Shares:
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def _by_task(run: RunLayout, names: Sequence[str]) -> dict[str, Shares]:
    counts: dict[str, dict[str, int]] = {}
    for shard in shards_of(run, "parallel", "routed"):
        table = run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
        task_of = {row["prompt_id"]: row["task"] for row in table}
        for row in run.assignment(PERSYN).read_table(shard).to_pylist():
            task = task_of[row["prompt_id"]]
            if task is not None:
                of_task = counts.setdefault(task, dict.fromkeys(names, 0))
                of_task[row["teacher"]] += 1
    return {task: _shares(count) for task, count in sorted(counts.items())}
