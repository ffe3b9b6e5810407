"""Part of section router: transfer of routers between tasks, by what each was fitted on.

In report.json, below router:

    transfer {tasks [], fits {fit: {task: {hit_at_1, chance_at_1, regret,
    pairwise_accuracy}}}}
"""

from collections.abc import Sequence
from typing import Any, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, DASHED, MUTED, WIDTH
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.numbers import interval, number

WITHOUT = "without "
DEEPEST = 0.55
"""Opacity of a cell whose share is 1; ink stays readable on it, on light and dark pages."""
INTERVAL_ROOM = 0.62
"""Inches that an interval takes inside a cell."""
LETTER = 0.075
"""Inches of an average letter of a column's name."""
NOT_MEASURED = {
    "transfer": "no routers were fitted on some tasks only (<code>router.transfer</code>).",
}
"""Why a part may be missing, in HTML."""


class Ranking(TypedDict):
    hit_at_1: Estimate | None
    chance_at_1: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None


class Transfer(TypedDict):
    tasks: list[str]
    fits: dict[str, dict[str, Ranking]]


def ordered_fits(transfer: Transfer) -> list[str]:
    """Names of the fits: on all tasks, without one, on one alone; then whatever else there is."""
    tasks = transfer["tasks"]
    wanted = ["all", *(WITHOUT + task for task in tasks), *tasks]
    known = [name for name in dict.fromkeys(wanted) if name in transfer["fits"]]
    return known + [name for name in transfer["fits"] if name not in known]


def fit_label(fit: str, tasks: Sequence[str]) -> str:
    """What a router was fitted on, in words."""
    if fit in tasks:
        return f"{fit} alone"
    return "all tasks" if fit == "all" else fit


def is_new(fit: str, task: str, tasks: Sequence[str]) -> bool:
    """Whether a router was fitted on no prompt of the task."""
    return fit == WITHOUT + task or (fit in tasks and fit != task)


def draw_transfer(found: Transfer | None) -> Figure | None:
    """Hit@1 of routers fitted on some tasks, on the prompts of each task."""
    if found is None or not found["tasks"] or not found["fits"]:
        return None
    tasks, fits = found["tasks"], ordered_fits(found)
    labels = drawing.short_names([fit_label(fit, tasks) for fit in fits], 28)
    cell = (WIDTH - 0.35 - LETTER * max(map(len, labels))) / len(tasks)
    is_wide = cell > INTERVAL_ROOM
    figure = Figure(figsize=(WIDTH, 0.8 + (0.48 if is_wide else 0.36) * len(fits)))
    axes = figure.subplots()
    for row, fit in enumerate(fits):
        for column, task in enumerate(tasks):
            ranking = found["fits"][fit].get(task)
            hit = ranking["hit_at_1"] if ranking else None
            _cell(axes, row, column, hit, is_wide, is_new(fit, task, tasks))
    drawing.label_rows(axes, labels, width=28)
    axes.set_ylim(len(fits) - 0.5, -0.5)
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    _name_columns(axes, tasks, cell)
    axes.set_ylabel("fitted on")
    return figure


def _cell(
    axes: Axes, row: int, column: int, hit: Estimate | None, is_wide: bool, is_new: bool
) -> None:
    """A share as a shade and a number; with a border where the router never saw the task."""
    if hit is None or hit["value"] is None:
        axes.annotate("\N{EN DASH}", (column, row), ha="center", va="center", color=MUTED)
        return
    shade = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, facecolor=ACCENT, linewidth=0)
    shade.set_alpha(DEEPEST * hit["value"])
    axes.add_patch(shade)
    if is_new:
        border = {"edgecolor": MUTED, "linewidth": 1.0, "linestyle": DASHED}
        axes.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, **border))
    bounds = interval(hit) if is_wide and hit["low"] is not None else ""
    centre: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    place = (0, 5.5) if bounds else (0, 0)
    axes.annotate(number(hit["value"]), (column, row), place, fontsize=9.6, **centre)
    axes.annotate(bounds, (column, row), (0, -7), fontsize=8, color=MUTED, **centre)


def _name_columns(axes: Axes, tasks: Sequence[str], cell: float) -> None:
    """Names of the tasks above the cells, slanted where they would meet."""
    names = drawing.short_names(tasks, 20)
    is_tight = max(map(len, names)) * LETTER > cell
    turned: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(tasks)), names, **(turned if is_tight else {}))
    axes.tick_params(axis="x", length=0, top=False, labeltop=True, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_title("tested on", loc="center", color=MUTED, fontsize=9.6)


FILTERS = (fit_label, ordered_fits)
"""Functions that the template calls."""
