"""The content of report.json: every number that report.html, the card and the console table show.

The keys below are stable. Whatever is per teacher or per method is keyed by its name, never by
position. A number that was not measured is null; a section without data is null, and the page says
so in a sentence.

    run           name, recipe {}, fingerprint, created, versions {},
                  hardware {cpus, memory_gib, gpus}, student, quality_kind, learnability_kind,
                  alpha, scaling, seed
    prompts       num_loaded, num_duplicates, num_parallel, num_routed, num_heldout
    allocation    teachers [], methods {method: {teacher: share}},
                  parallel_set_oracle {teacher: share},
                  by_task {task: {teacher: share}} (PerSyn's assignment)
    reward        measured_on, incomplete (the recipe's responses.incomplete),
                  teachers {teacher: {mean_reward: Estimate, mean_quality, mean_learnability,
                  mean_tokens, num_null (rewards), num_responses (stored), of these num_truncated,
                  num_looped, num_failed, num_unscored (complete, without a reward), num_absent
                  (prompts without any)}},
                  preferences {num_pairs, num_ties, num_null, num_prompts_without_pairs},
                  prompts {num, num_rewarded (a reward is known), num_comparable (two are),
                  num_preferring (two differ), num_all_tied (all known ones are equal)}
    router        num_fit, num_heldout, heldout_set, prompts (as in reward, of these prompts),
                  hit_at_1, hit_at_3, regret, pairwise_accuracy (Estimates),
                  chance_at_1, chance_at_3 (what a draw among the teachers hits on these prompts),
                  loss_curve [{step, train_loss, heldout_loss}],
                  references {method: {reward, regret, hit_at_1 (Estimates)}},
                  differences {method: Estimate} (routed reward, PerSyn minus it, by prompt),
                  learning_curve [{num_parallel, hit_at_1, chance_at_1, regret, pairwise_accuracy}],
                  calibration {ece: Estimate, noise (the ECE that chance alone gives),
                  temperature, scaled_ece: Estimate (its temperatures fitted on other prompts),
                  scaled_noise, table [{confidence, accuracy, num}]},
                  transfer {tasks [], fits {fit: {task: {hit_at_1, chance_at_1, regret,
                  pairwise_accuracy}}}},
                  hedging [{extra (generations a prompt beyond the first), reward,
                  random (the same, at prompts drawn at random)}],
                  novelty {by_split {split: share}, by_task {task: share}}
    constraints   limits {name: value}, used {name: value}, value, bound, gap,
                  unconstrained_value (summed predicted rewards), pareto [{cost, reward, unit}]
                  (PerSyn's assignment within limits; no baseline has any)
    alpha_sweep   reference_alpha, points [{alpha, shares {teacher: share}, agreement,
                  mean_quality, mean_learnability}]
    student       metric, num_problems, before: Estimate,
                  methods {method: {value, low, high, num, num_examples, correct_share}},
                  differences {method or "before": Estimate} (PerSyn minus it, by problem),
                  by_task {method or "before": {task: value}}
    examples      methods {method: {kept, without_response, truncated, looped, without_teacher,
                  kept_truncated, reassigned}} (what became of the prompts; the first five add up)
    tokens        unit, collect, synthesize, route_then_generate, generate_then_select,
                  saving_fraction, estimated, per_teacher {teacher: tokens},
                  responses {collect, synthesize, route_then_generate, generate_then_select}
    spending      accounts {KIND/NAME: {tokens, dollars, open_tokens, budget_tokens,
                  budget_dollars}} (what endpoints were paid, by the ledger, which runs may share;
                  open_tokens are in flight now or were when their process died, and count at
                  their upper bound), num_ungraded (responses without a grade because a judge's
                  budget was used up)
    timing        steps [{step, seconds, rows}], total_seconds
    forecast      steps {collect or synthesize: {prompts, tokens, seconds, dollars (each {forecast,
                  actual}), at_most, teachers {teacher: {the same five, source}}}}
                  (at_most: tokens were forecast by their limit)
    dead_letters  num, by_reason {}, by_teacher {},
                  examples [{step, prompt_id, teacher, reason, detail}]
    problems      {part: reason}: what could not be made of the above, and why (problems.py)

Methods: persyn, hedged, and those of compare.methods. Fits of transfer: "all", "without TASK" and
"TASK", what the router was fitted on. An Estimate is {value, low, high, num}: a mean, its 95 %
interval and the number of prompts or problems behind it; differences are paired. Shares of novelty
are of prompts flagged as unlike the parallel set.
Learnability is in nats per token, unless learnability_kind is rank_surprisal (a ratio, negated).
"""

import json
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from persyn_ray.escaping import json_text, visible_values
from persyn_ray.report.completing import completed


class Estimate(TypedDict):
    value: float | None
    low: float | None
    high: float | None
    num: int | None


class Hardware(TypedDict):
    cpus: float | None
    memory_gib: float | None
    gpus: float | None


class RunSummary(TypedDict):
    name: str | None
    recipe: dict[str, Any]
    fingerprint: str | None
    created: str | None
    versions: dict[str, str]
    hardware: Hardware | None
    student: str | None
    quality_kind: str | None
    learnability_kind: str | None
    alpha: float | None
    scaling: str | None
    seed: int | None


class Prompts(TypedDict):
    num_loaded: int | None
    num_duplicates: int | None
    num_parallel: int | None
    num_routed: int | None
    num_heldout: int | None


Shares = dict[str, float | None]


class Allocation(TypedDict):
    teachers: list[str]
    methods: dict[str, Shares]
    parallel_set_oracle: Shares
    by_task: dict[str, Shares]


class TeacherReward(TypedDict):
    mean_reward: Estimate | None
    mean_quality: float | None
    mean_learnability: float | None
    mean_tokens: float | None
    num_null: int | None
    num_responses: int | None
    num_truncated: int | None
    num_looped: int | None
    num_failed: int | None
    num_absent: int | None
    num_unscored: int | None


class RewardedPrompts(TypedDict):
    num: int | None
    num_rewarded: int | None
    num_comparable: int | None
    num_preferring: int | None
    num_all_tied: int | None


class Preferences(TypedDict):
    num_pairs: int | None
    num_ties: int | None
    num_null: int | None
    num_prompts_without_pairs: int | None


class Reward(TypedDict):
    measured_on: str | None
    incomplete: str | None
    teachers: dict[str, TeacherReward]
    preferences: Preferences | None
    prompts: RewardedPrompts | None


class LossPoint(TypedDict):
    step: float
    train_loss: float | None
    heldout_loss: float | None


class Reference(TypedDict):
    reward: Estimate | None
    regret: Estimate | None
    hit_at_1: Estimate | None


class LearningPoint(TypedDict):
    num_parallel: int
    hit_at_1: Estimate | None
    chance_at_1: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None


class ReliabilityBin(TypedDict):
    confidence: float
    accuracy: float
    num: float | None


class CalibrationSummary(TypedDict):
    ece: Estimate | None
    noise: float | None
    temperature: float | None
    scaled_ece: Estimate | None
    scaled_noise: float | None
    table: list[ReliabilityBin]


class Ranking(TypedDict):
    hit_at_1: Estimate | None
    chance_at_1: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None


class Transfer(TypedDict):
    tasks: list[str]
    fits: dict[str, dict[str, Ranking]]


class HedgingPoint(TypedDict):
    extra: float
    reward: float | None
    random: float | None


class NoveltySummary(TypedDict):
    by_split: dict[str, float | None]
    by_task: dict[str, float | None]


class RouterSummary(TypedDict):
    num_fit: int | None
    num_heldout: int | None
    heldout_set: str | None
    prompts: RewardedPrompts | None
    hit_at_1: Estimate | None
    chance_at_1: float | None
    hit_at_3: Estimate | None
    chance_at_3: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None
    loss_curve: list[LossPoint]
    references: dict[str, Reference]
    differences: dict[str, Estimate]
    learning_curve: list[LearningPoint]
    calibration: CalibrationSummary | None
    transfer: Transfer | None
    hedging: list[HedgingPoint]
    novelty: NoveltySummary | None


class FrontPointSummary(TypedDict):
    cost: float
    reward: float
    unit: str | None


class LimitsSummary(TypedDict):
    limits: dict[str, float | None]
    used: dict[str, float | None]
    value: float | None
    bound: float | None
    gap: float | None
    unconstrained_value: float | None
    pareto: list[FrontPointSummary]


class AlphaPoint(TypedDict):
    alpha: float
    shares: Shares
    agreement: float | None
    mean_quality: float | None
    mean_learnability: float | None


class AlphaSweepSummary(TypedDict):
    reference_alpha: float | None
    points: list[AlphaPoint]


class StudentMethod(TypedDict):
    value: float | None
    low: float | None
    high: float | None
    num: int | None
    num_examples: int | None
    correct_share: float | None


class Student(TypedDict):
    metric: str | None
    num_problems: int | None
    before: Estimate | None
    methods: dict[str, StudentMethod]
    differences: dict[str, Estimate]
    by_task: dict[str, dict[str, float | None]]


class ExampleSummary(TypedDict):
    kept: int | None
    without_response: int | None
    truncated: int | None
    looped: int | None
    without_teacher: int | None
    kept_truncated: int | None
    reassigned: int | None


class Examples(TypedDict):
    methods: dict[str, ExampleSummary]


class Responses(TypedDict):
    collect: int | None
    synthesize: int | None
    route_then_generate: int | None
    generate_then_select: int | None


class Tokens(TypedDict):
    unit: str | None
    collect: float | None
    synthesize: float | None
    route_then_generate: float | None
    generate_then_select: float | None
    saving_fraction: float | None
    estimated: bool | None
    per_teacher: dict[str, float | None]
    responses: Responses | None


class AccountSpending(TypedDict):
    tokens: int | None
    dollars: float | None
    open_tokens: int | None
    budget_tokens: int | None
    budget_dollars: float | None


class Spending(TypedDict):
    accounts: dict[str, AccountSpending]
    num_ungraded: int | None


class StepTime(TypedDict):
    step: str
    seconds: float | None
    rows: int | None


class Timing(TypedDict):
    steps: list[StepTime]
    total_seconds: float | None


class ComparedAccuracy(TypedDict):
    forecast: float | None
    actual: float | None


class TeacherForecastSummary(TypedDict):
    prompts: ComparedAccuracy | None
    tokens: ComparedAccuracy | None
    seconds: ComparedAccuracy | None
    dollars: ComparedAccuracy | None
    at_most: bool | None
    source: str | None


class StepForecast(TypedDict):
    prompts: ComparedAccuracy | None
    tokens: ComparedAccuracy | None
    seconds: ComparedAccuracy | None
    dollars: ComparedAccuracy | None
    at_most: bool | None
    teachers: dict[str, TeacherForecastSummary]


class ForecastSummary(TypedDict):
    steps: dict[str, StepForecast]


class DeadLetter(TypedDict):
    step: str | None
    prompt_id: str | None
    teacher: str | None
    reason: str | None
    detail: str | None


class DeadLetters(TypedDict):
    num: int | None
    by_reason: dict[str, int]
    by_teacher: dict[str, int]
    examples: list[DeadLetter]


class Report(TypedDict):
    run: RunSummary | None
    prompts: Prompts | None
    allocation: Allocation | None
    reward: Reward | None
    router: RouterSummary | None
    constraints: LimitsSummary | None
    alpha_sweep: AlphaSweepSummary | None
    student: Student | None
    examples: Examples | None
    tokens: Tokens | None
    spending: Spending | None
    timing: Timing | None
    forecast: ForecastSummary | None
    dead_letters: DeadLetters | None
    problems: dict[str, str]


LONGEST, LONGEST_KEY = 400, 80
"""Characters of a text, and of a name or label, that pages and tables show."""


def complete_section(name: str, value: Any) -> Any:
    """One section by itself, as `complete` has it.

    Raises:
        DataError: as `complete`.
    """
    return completed({name: value}, Report, "report")[name]


def complete(content: Mapping[str, Any]) -> Report:
    """A copy with every documented key: null, [] or {} where none was given.

    NaN and infinity become null: JSON has neither.

    Raises:
        DataError: a key is not documented above, or its value has another type.
    """
    return cast(Report, completed(content, Report, "report"))


def displayed(content: Mapping[str, Any]) -> Report:
    """The same as `complete`, with every text but the recipe's as it may be shown anywhere.

    Raises:
        DataError: as `complete`.
    """
    report = complete(content)
    shown = visible_values(report, LONGEST, LONGEST_KEY)
    if report["run"] is not None:
        shown["run"]["recipe"] = report["run"]["recipe"]
    return cast(Report, shown)


def to_json(content: Mapping[str, Any]) -> str:
    """The text of report.json."""
    text = json.dumps(complete(content), indent=2, ensure_ascii=False, allow_nan=False)
    return json_text(text) + "\n"
