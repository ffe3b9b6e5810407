"""The content of report.json: every number that report.html, the card and the console table show.

Its keys are stable; each section documents its own in persyn_ray/report/sections/. Whatever is per
teacher or per method is keyed by its name, never by position. A number that was not measured is
null; a section without data is null, and the page says so in a sentence.

    problems      {part: reason}: what could not be made of the sections, and why (problems.py)

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
from persyn_ray.report.sections.allocation import Allocation
from persyn_ray.report.sections.alpha import AlphaSweepSummary
from persyn_ray.report.sections.dead_letters import DeadLetters
from persyn_ray.report.sections.examples import Examples
from persyn_ray.report.sections.forecast import ForecastSummary
from persyn_ray.report.sections.limits import LimitsSummary
from persyn_ray.report.sections.rewards import Reward
from persyn_ray.report.sections.router.ranking import RouterSummary
from persyn_ray.report.sections.run import Prompts, RunSummary
from persyn_ray.report.sections.student import LmEval, Student
from persyn_ray.report.sections.timing import Timing
from persyn_ray.report.sections.tokens import Spending, Tokens
from persyn_ray.report.sections.training import Training


class Report(TypedDict):
    run: RunSummary | None
    prompts: Prompts | None
    allocation: Allocation | None
    reward: Reward | None
    router: RouterSummary | None
    constraints: LimitsSummary | None
    alpha_sweep: AlphaSweepSummary | None
    student: Student | None
    training: Training | None
    lm_eval: LmEval | None
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
        DataError: a key is none of a section's, or its value has another type.
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
