"""Figures of the router: calibration,
transfer between tasks, hedging, and the front of an assignment within limits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from persyn_ray.report import drawing
from persyn_ray.report.content import CalibrationSummary, FrontPointSummary, LimitsSummary, Report
from persyn_ray.report.drawing import ACCENT, INK, MUTED, ORACLE, REFERENCE, WARM, WIDTH
from persyn_ray.report.limits import chosen_cost
from persyn_ray.report.numbers import fine, interval, number
from persyn_ray.report.transfer import fit_label, is_new, ordered_fits

DASHED = (0, (3, 3))
DEEPEST = 0.55
"""Opacity of a cell whose share is 1; ink stays readable on it, on light and dark pages."""
INTERVAL_ROOM = 0.62
"""Inches that an interval takes inside a cell."""
LETTER = 0.075
"""Inches of an average letter of a column's name."""
AMOUNTS = FuncFormatter(lambda value, _: fine(value))


def reliability(content: Report) -> Figure | None:
    """How often the router's claims come true, and their error before and after scaling."""
    calibration = content["router"]["calibration"] if content["router"] else None
    if calibration is None or not calibration["table"]:
        return None
    figure = Figure(figsize=(WIDTH, 3.0))
    diagram, errors = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _diagram(diagram, calibration)
    _errors(errors, calibration)
    drawing.panel_gap(figure, 0.12)
    return figure


def _diagram(axes: Axes, calibration: CalibrationSummary) -> None:
    claimed = [one["confidence"] for one in calibration["table"]]
    true = [one["accuracy"] for one in calibration["table"]]
    axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    axes.plot(claimed, true, "-o", color=ACCENT, linewidth=1.8, markersize=4.5, clip_on=False)
    axes.set_xlim(0.5, 1)
    axes.set_ylim(min(0.5, *true) - 0.02, 1)
    axes.set_xlabel("claimed probability")
    axes.set_title("share of claims that are true")
    for axis in ("x", "y"):
        drawing.value_grid(axes, axis, bins=5)


def _errors(axes: Axes, calibration: CalibrationSummary) -> None:
    rows = (
        ("as they are", calibration["ece"], calibration["noise"], ACCENT),
        ("scaled", calibration["scaled_ece"], calibration["scaled_noise"], ORACLE),
    )
    shown = [row for row in rows if row[1] and row[1]["value"] is not None]
    for place, (_, error, noise, colour) in enumerate(shown):
        drawing.dot(axes, place, error, colour)
        if noise is not None:
            axes.plot([noise, noise], [place - 0.22, place + 0.22], color=INK, linewidth=1.4)
    drawing.label_rows(axes, [name for name, *_ in shown])
    drawing.value_grid(axes, bins=4)
    axes.set_xlim(0, 1.15 * max(0.0, axes.dataLim.x1) or 1)
    axes.set_title("calibration error")
    axes.set_xlabel("mark: by chance alone")


def transfer(content: Report) -> Figure | None:
    """Hit@1 of routers fitted on some tasks, on the prompts of each task."""
    found = content["router"]["transfer"] if content["router"] else None
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
    axes: Axes, row: int, column: int, hit: Mapping[str, Any] | None, is_wide: bool, is_new: bool
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


def hedging(content: Report) -> Figure | None:
    """Reward of the best response against generations beyond the first, beside a random control."""
    points = content["router"]["hedging"] if content["router"] else []
    if not points:
        return None
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.subplots()
    for key, colour, name, style in (
        ("random", REFERENCE, "prompts drawn at random", "--"),
        ("reward", ACCENT, "closest calls first", "-"),
    ):
        known = [(point["extra"], point[key]) for point in points if point[key] is not None]
        places, rewards = [place for place, _ in known], [reward for _, reward in known]
        axes.plot(places, rewards, style, color=colour, linewidth=1.8, label=name)
    _name_ends(axes, [(point["extra"], point["reward"]) for point in points])
    drawing.value_grid(axes, "y", bins=5)
    axes.margins(x=0.03, y=0.15)
    axes.set_xlabel("generations per prompt beyond the first")
    axes.set_title("mean reward of the best response")
    axes.legend(loc="lower right")
    return figure


def _name_ends(axes: Axes, points: Sequence[tuple[float, float | None]]) -> None:
    known = [(extra, reward) for extra, reward in points if reward is not None]
    if len(known) < 2:
        return
    for (extra, reward), name, colour, offset, side in (
        (known[0], "route-only", ACCENT, (8, -4), "left"),
        (known[-1], "generate-then-select", ORACLE, (4, 8), "right"),
    ):
        axes.plot([extra], [reward], "o", color=colour, markersize=6, clip_on=False)
        axes.annotate(name, (extra, reward), offset, textcoords="offset points", ha=side)


def front(content: Report) -> Figure | None:
    """The most reward of an assignment for each cost, and the one that was chosen."""
    constraints = content["constraints"]
    points = constraints["pareto"] if constraints else []
    if constraints is None or not points:
        return None
    units = list(dict.fromkeys(point["unit"] for point in points))
    figure = Figure(figsize=(WIDTH, 2.9))
    panels = figure.subplots(1, len(units), sharey=True, squeeze=False)[0]
    for axes, unit in zip(panels, units, strict=True):
        of_unit = [point for point in points if point["unit"] == unit]
        _front(axes, sorted(of_unit, key=lambda point: point["cost"]), constraints, 8 // len(units))
        axes.set_xlabel(f"summed cost, {unit or 'without a unit'}")
    panels[0].set_title("summed predicted reward")
    return figure


def _front(
    axes: Axes, points: Sequence[FrontPointSummary], constraints: LimitsSummary, num_ticks: int
) -> None:
    costs, rewards = [point["cost"] for point in points], [point["reward"] for point in points]
    axes.plot(costs, rewards, "-o", color=ACCENT, linewidth=1.8, markersize=3.5)
    cost, value = chosen_cost(constraints, points[0]["unit"]), constraints["value"]
    if cost is not None and value is not None:
        axes.plot([cost], [value], "D", color=WARM, markersize=7)
        is_left = cost < (costs[0] + costs[-1]) / 2
        axes.annotate(
            "chosen",
            (cost, value),
            (10 if is_left else -2, -14),
            textcoords="offset points",
            ha="left" if is_left else "right",
            fontweight="bold",
        )
    elif value is not None:
        axes.axhline(value, color=WARM, linewidth=1.4, linestyle=DASHED)
        axes.annotate(
            "chosen", (costs[-1], value), (0, -12), textcoords="offset points", ha="right"
        )
    drawing.value_grid(axes, "y", bins=5)
    axes.margins(x=0.05, y=0.15)
    axes.xaxis.set_major_formatter(AMOUNTS)
    axes.yaxis.set_major_formatter(AMOUNTS)
    axes.locator_params(axis="x", nbins=num_ticks)
