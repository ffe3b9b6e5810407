"""The content of comparison.json: what several seeds say of PerSyn beside other methods.

    name, metric (student accuracy, or routed reward where no student was evaluated)
    why_no_students   a sentence, or null
    seeds             [{seed, run}]
    num_problems      held-out problems over all seeds (null without students)
    same_problems     whether all seeds were judged on the same ones
    rewarded_on       which prompts routed reward was measured on
    adjusted_for      [method]: the comparisons that Holm's correction counts
    methods           {method or "before": {mean: Estimate, by_seed [], difference, routed_reward:
                      Estimate, correct_share, num_examples (means over seeds)}}
                      difference {value, low, high, p_value, p_holm, num_seeds, num_problems}:
                      PerSyn minus the method in the metric, paired
    problems          {part: reason}: what could not be made, and why

An Estimate is {value, low, high, num}, as in report.json. What was not measured is null.
"""

import json
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from persyn_ray.escaping import json_text, visible_values
from persyn_ray.report.completing import completed
from persyn_ray.report.content import LONGEST, LONGEST_KEY
from persyn_ray.report.estimate import Bounded, Estimate

ACCURACY, REWARD = "student accuracy", "routed reward"


class SeedRun(TypedDict):
    seed: int | None
    run: str | None


class TestedDifference(Bounded):
    p_value: float | None
    p_holm: float | None
    num_seeds: int | None
    num_problems: int | None


class Compared(TypedDict):
    mean: Estimate | None
    by_seed: list[float | None]
    difference: TestedDifference | None
    routed_reward: Estimate | None
    correct_share: float | None
    num_examples: float | None


class Comparison(TypedDict):
    name: str | None
    metric: str | None
    why_no_students: str | None
    seeds: list[SeedRun]
    num_problems: int | None
    same_problems: bool | None
    rewarded_on: str | None
    adjusted_for: list[str]
    methods: dict[str, Compared]
    problems: dict[str, str]


def complete(content: Mapping[str, Any]) -> Comparison:
    """A copy with every documented key: null, [] or {} where none was given, null for NaN.

    Raises:
        DataError: a key is not documented above, or its value has another type.
    """
    return cast(Comparison, completed(content, Comparison, "comparison"))


def displayed(content: Mapping[str, Any]) -> Comparison:
    """The same as `complete`, with every text as it may be shown anywhere.

    Raises:
        DataError: as `complete`.
    """
    return cast(Comparison, visible_values(complete(content), LONGEST, LONGEST_KEY))


def to_json(content: Mapping[str, Any]) -> str:
    """The text of comparison.json."""
    text = json.dumps(complete(content), indent=2, ensure_ascii=False, allow_nan=False)
    return json_text(text) + "\n"


def has_students(content: Comparison) -> bool:
    """Whether students are compared, rather than routed rewards alone."""
    return content["metric"] == ACCURACY
