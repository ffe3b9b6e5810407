"""Section timing: wall-clock time of each step.

In report.json:

    timing        steps [{step, seconds, rows}], total_seconds,
                  trainings {method: {seconds, steps, response_tokens_per_second,
                  tokens_per_second, mfu, mfu_unknown}} (of students; mfu: model FLOP/s utilisation)
"""

from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, MUTED, WIDTH
from persyn_ray.report.numbers import seconds

NOT_MEASURED = {
    "timing": "no step durations were recorded.",
}
"""Why a part may be missing, in HTML."""


class StepTime(TypedDict):
    step: str
    seconds: float | None
    rows: int | None


class Training(TypedDict):
    seconds: float | None
    steps: int | None
    response_tokens_per_second: float | None
    tokens_per_second: float | None
    mfu: float | None
    mfu_unknown: str | None


class Timing(TypedDict):
    steps: list[StepTime]
    trainings: dict[str, Training]
    total_seconds: float | None


def draw_timing(timing: Timing | None) -> Figure | None:
    """Wall-clock time of each step."""
    steps = [step for step in (timing or {"steps": []})["steps"] if step["seconds"] is not None]
    if not steps:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(steps), 0.27)))
    axes = figure.subplots()
    bars = axes.barh(
        range(len(steps)), [step["seconds"] or 0 for step in steps], height=0.62, color=ACCENT
    )
    axes.bar_label(
        bars, [seconds(step["seconds"]) for step in steps], padding=4, fontsize=8.8, color=MUTED
    )
    drawing.label_rows(axes, [step["step"] for step in steps])
    drawing.value_grid(axes)
    axes.set_xlabel("seconds")
    axes.set_xlim(0, 1.18 * axes.dataLim.x1 or 1)
    return figure
