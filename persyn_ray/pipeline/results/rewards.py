"""Collects rewards on the parallel set per teacher, and how many rows count.

Axes: P prompts, M teachers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from persyn_ray.data import selection
from persyn_ray.method import metrics
from persyn_ray.method.allocation import tie_breaks
from persyn_ray.method.arrays import mean_or_none
from persyn_ray.method.predictors.effects import oracle_gain, variance_shares
from persyn_ray.method.preferences import count_preferences
from persyn_ray.pipeline.plan.forecasts.expected_tokens import WRITTEN, mean_student_tokens
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.alpha import AlphaPoint, AlphaSweepSummary
from persyn_ray.report.sections.rewards import (
    Preferences,
    ResponseFates,
    Reward,
    RewardedPrompts,
    TeacherReward,
)
from persyn_ray.report.sections.variance import Variance, variance_of
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import Rewards, outcomes_PM, shards_of
from persyn_ray.statistics.intervals import bootstrap_mean
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import RESPONSES

UNKNOWN: ResponseFates = {
    "num_responses": None,
    "num_truncated": None,
    "num_looped": None,
    "num_failed": None,
    "num_absent": None,
    "num_unscored": None,
}
Floats = NDArray[np.float64]
ALPHAS = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())


@dataclass(frozen=True)
class ResponseFacts:
    """What is known of the responses to the parallel set, by teacher; empty where unreadable."""

    mean_tokens: dict[str, float | None]
    """In the student's tokens."""
    fates: dict[str, ResponseFates]
    incomplete: Literal["drop", "next_best", "keep"]
    """What becomes of one that is not complete."""


def response_facts(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    responses: ResponsesConfig,
    parallel: Rewards,
    problems: Problems,
) -> ResponseFacts:
    """Read them; what cannot be read stands under `problems`."""
    return ResponseFacts(
        problems.attempt("reward.mean_tokens", partial(mean_student_tokens, run, teachers), {}),
        problems.attempt(
            "reward.responses", partial(fates_of, run, teachers, responses, parallel), {}
        ),
        responses.incomplete,
    )


def gather_reward(
    parallel: Rewards, facts: ResponseFacts, names: Sequence[str], seed: int
) -> Reward:
    """Section `reward`; what could not be read of the responses is null.

    Args:
        names: of the teachers, in the order of M.
        seed: of resampling.
    """
    teachers: dict[str, TeacherReward] = {
        name: {
            "mean_reward": estimate(bootstrap_mean(parallel.rewards_PM[:, m], seed)),
            "mean_quality": mean_or_none(parallel.quality_PM[:, m]),
            "mean_learnability": mean_or_none(parallel.learnability_PM[:, m]),
            "mean_tokens": facts.mean_tokens.get(name),
            "num_null": int(np.isnan(parallel.rewards_PM[:, m]).sum()),
            **facts.fates.get(name, UNKNOWN),
        }
        for m, name in enumerate(names)
    }
    counts = count_preferences(parallel.rewards_PM)
    preferences: Preferences = {
        "num_pairs": counts.num_pairs,
        "num_ties": counts.num_ties,
        "num_null": counts.num_null_teachers,
        "num_prompts_without_pairs": counts.num_prompts_without_pairs,
    }
    return {
        "measured_on": "parallel set",
        "incomplete": facts.incomplete,
        "teachers": teachers,
        "preferences": preferences,
        "prompts": prompt_counts(parallel.rewards_PM),
        "variance": None,
    }


def gather_variance(parallel: Rewards, tasks: Sequence[str | None]) -> Variance | None:
    """Part `variance` of section `reward`: shares of each signal that is known and varies."""
    signals = {
        "reward": parallel.rewards_PM,
        "quality": parallel.quality_PM,
        "learnability": parallel.learnability_PM,
    }
    known = {name: of for name, of in signals.items() if not np.isnan(of).all()}
    if "reward" not in known:
        return None
    shares = {name: variance_shares(values_PM, tasks) for name, values_PM in known.items()}
    return variance_of(shares, oracle_gain(parallel.rewards_PM))


def prompt_counts(rewards_PM: Floats) -> RewardedPrompts:
    """Of some prompts, on how many the rewards say anything of teachers."""
    num_known_P = (~np.isnan(rewards_PM)).sum(axis=1)
    without = count_preferences(rewards_PM).num_prompts_without_pairs
    num_comparable = int((num_known_P >= 2).sum())
    num_preferring = len(rewards_PM) - without
    return {
        "num": len(rewards_PM),
        "num_rewarded": int((num_known_P >= 1).sum()),
        "num_comparable": num_comparable,
        "num_preferring": num_preferring,
        "num_all_tied": num_comparable - num_preferring,
    }


def fates_of(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    responses: ResponsesConfig,
    parallel: Rewards | None,
) -> dict[str, ResponseFates]:
    """What became of each teacher's responses to the parallel set.

    Args:
        responses: what makes one complete.
        parallel: its rewards; without them nothing is said of scores.
    """
    shards = shards_of(run, "parallel")
    ids = {shard: _ids(run, shard) for shard in shards}
    num_prompts = sum(map(len, ids.values()))
    found: dict[str, ResponseFates] = {}
    for m, teacher in enumerate(teachers):
        endings = endings_of(run, teacher, shards)
        num_stored, num_unscored = sum(endings.values()), 0
        if parallel is not None:
            complete_P = _complete(run.responses(teacher), ids, responses)
            num_unscored = int((complete_P & np.isnan(parallel.rewards_PM[:, m])).sum())
        found[teacher.name] = {
            "num_responses": num_stored,
            "num_truncated": endings["length"],
            "num_looped": endings["loop"],
            "num_failed": num_stored - sum(endings[reason] for reason in WRITTEN),
            "num_absent": max(0, _num_asked(teacher, num_prompts) - num_stored),
            "num_unscored": num_unscored,
        }
    return found


def _complete(
    stored: Folder, ids: Mapping[str, Sequence[str]], responses: ResponsesConfig
) -> NDArray[np.bool_]:
    """Which prompts have a complete response, shape (P,), shard after shard."""
    found = [
        outcomes_PM([existing(stored, shard, RESPONSES)], responses, prompt_ids)[:, 0]
        for shard, prompt_ids in ids.items()
    ]
    return np.concatenate(found) == "complete"


def _ids(run: RunLayout, shard: str) -> list[str]:
    return run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()


def _num_asked(teacher: TeacherConfig, num_prompts: int) -> int:
    """Prompts that a teacher should have answered; one that retired is asked no more."""
    if teacher.retired:
        return 0
    return num_prompts if teacher.num_probe is None else min(teacher.num_probe, num_prompts)


def endings_of(run: RunLayout, teacher: TeacherConfig, shards: list[str]) -> Counter[str]:
    """How often a teacher's stored responses to some shards ended in which way."""
    found: Counter[str] = Counter()
    for shard in shards:
        prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
        table = existing(run.responses(teacher), shard, RESPONSES)
        table = selection.among(table, "prompt_id", prompt_ids)
        found.update(table["finish_reason"].to_pylist())
    return found


def gather_alpha_sweep(
    parallel: Rewards, names: Sequence[str], scoring: ScoringConfig, seed: int
) -> AlphaSweepSummary | None:
    """Section `alpha_sweep`; None where no learnability was measured."""
    if np.isnan(parallel.learnability_PM).all():
        return None
    sweep = metrics.alpha_sweep(
        parallel.quality_PM,
        parallel.learnability_PM,
        ALPHAS,
        scoring.scaling,
        tie_breaks(parallel.prompt_ids, names, seed),
        scoring.alpha,
    )
    points: list[AlphaPoint] = [
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
