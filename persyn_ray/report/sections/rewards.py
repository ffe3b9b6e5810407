"""Section rewards: rewards of the teachers on the parallel set, and what became of responses.

In report.json:

    reward        measured_on, incomplete (the recipe's responses.incomplete),
                  teachers {teacher: {mean_reward: Estimate, mean_quality, mean_learnability,
                  mean_tokens, num_null (rewards), num_responses (stored), of these num_truncated,
                  num_looped, num_failed, num_unscored (complete, without a reward), num_absent
                  (prompts without any)}},
                  preferences {num_pairs, num_ties, num_null, num_prompts_without_pairs},
                  prompts {num, num_rewarded (a reward is known), num_comparable (two are),
                  num_preferring (two differ), num_all_tied (all known ones are equal)},
                  variance (variance.py)
"""

from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, ORACLE, WARM, WIDTH
from persyn_ray.report.estimate import Bounded, Estimate
from persyn_ray.report.sections.variance import Variance

NOT_MEASURED = {
    "reward": "no rewards were computed on the parallel set.",
}
"""Why a part may be missing, in HTML."""


class TeacherMeans(TypedDict):
    mean_reward: Estimate | None
    mean_quality: float | None
    mean_learnability: float | None
    mean_tokens: float | None
    num_null: int | None


class ResponseFates(TypedDict):
    num_responses: int | None
    num_truncated: int | None
    num_looped: int | None
    num_failed: int | None
    num_absent: int | None
    num_unscored: int | None


class TeacherReward(TeacherMeans, ResponseFates):
    """What a teacher's responses are worth, and what became of them."""


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
    variance: Variance | None


def draw_reward(reward: Reward | None) -> Figure | None:
    """Mean reward of each teacher with 95 % intervals, beside its mean quality and learnability."""
    teachers = reward["teachers"] if reward else {}
    if not teachers:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(teachers), 0.32, 0.8)))
    panels = figure.subplots(1, 3, sharey=True)
    columns = (("reward", ACCENT), ("quality", ORACLE), ("learnability", WARM))
    for axes, (column, colour) in zip(panels, columns, strict=True):
        for row, values in enumerate(teachers.values()):
            mean = values[f"mean_{column}"]
            if isinstance(mean, float | int):
                mean = Bounded(value=mean, low=None, high=None)
            drawing.dot(axes, row, mean, colour)
        drawing.value_grid(axes, bins=3)
        axes.margins(x=0.12)
        axes.set_title(column)
        drawing.unlabelled_rows(axes)
    drawing.label_rows(panels[0], drawing.short_names(list(teachers), 19))
    drawing.panel_gap(figure, 0.1)
    return figure
