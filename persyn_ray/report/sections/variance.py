"""Part of section rewards: whose the variance of the signals is, which bounds what routing gains.

In report.json:

    reward.variance   signals {reward, quality, learnability: {teacher, prompt, interaction,
                      task_interaction}} (shares of the variance on the parallel set; interaction
                      is teacher times prompt with the noise of single responses, task_interaction
                      the part of it that lies between tasks, freed of chance),
                      oracle_gain (reward of the best response of each prompt minus that of the best
                      constant teacher)

The estimator is least squares on known values, value = prompt + teacher + interaction, without
replication; between tasks it is the method of moments (method/predictors/effects.py).
"""

from collections.abc import Mapping
from math import isnan
from typing import TypedDict

from persyn_ray.method.predictors.effects import VarianceShares
from persyn_ray.report.numbers import NOTHING, percent, signed

NOT_MEASURED = {
    "variance": "no rewards were computed on the parallel set, or they do not vary.",
}
"""Why a part may be missing, in HTML."""


class VarianceParts(TypedDict):
    teacher: float | None
    prompt: float | None
    interaction: float | None
    task_interaction: float | None


class Variance(TypedDict):
    signals: dict[str, VarianceParts]
    oracle_gain: float | None


def variance_of(shares: Mapping[str, VarianceShares], oracle_gain: float) -> Variance | None:
    """The part of the report, of those signals that vary; None where none does."""
    signals: dict[str, VarianceParts] = {
        name: {
            "teacher": of.teacher,
            "prompt": of.prompt,
            "interaction": of.interaction,
            "task_interaction": of.task_interaction,
        }
        for name, of in shares.items()
        if not isnan(of.teacher)
    }
    return {"signals": signals, "oracle_gain": oracle_gain} if signals else None


def variance_sentences(variance: Variance | None) -> list[str]:
    """Whose the variance of the reward is, and what that bounds."""
    reward = variance["signals"].get("reward") if variance else None
    if variance is None or reward is None or reward["interaction"] is None:
        return []
    shares = {
        "the teacher's": reward["teacher"],
        "the prompt's": reward["prompt"],
        "that of teacher × prompt": reward["interaction"],
    }
    told = [f"{_percent(share)} is {whose}" for whose, share in shares.items()]
    gain = variance["oracle_gain"]
    most = "" if gain is None else f", on these prompts {signed(gain, 3)} reward at the very most"
    return [
        f"Of the variance of the reward {told[0]}, {told[1]} and {told[2]}, noise included: the "
        f"first a single teacher gets, the second nobody changes, and the last bounds what any "
        f"router can gain over the best single teacher{most}."
    ]


def _percent(share: float | None) -> str:
    return NOTHING if share is None else percent(share)
