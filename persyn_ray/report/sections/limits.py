"""Section limits: what an assignment within limits was allowed, used, and is worth.

Whether limits cost anything is read off the values: an assignment within limits that bind is worth
less than the one without any. Values are sums of predicted rewards, so they are shown in parts of
one another. In report.json:

    constraints   limits {name: value}, used {name: value}, value, bound, gap,
                  unconstrained_value (summed predicted rewards), pareto [{cost, reward, unit}]
                  (PerSyn's assignment within limits; no baseline has any)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, DASHED, WARM, WIDTH
from persyn_ray.report.numbers import compact, fine, number, percent

NEAR = 0.01
"""In parts of a limit: this near to it, a limit counts as used up."""
SAME = 1e-9
"""In parts of a value: sums that differ by less differ by rounding."""
TINY = 0.0005
"""A share that one decimal of a percent would show as nothing."""
LABELS = {
    "max_tokens": "tokens",
    "max_dollars": "dollars",
    "max_gpu_seconds": "GPU-seconds",
    "min_share": "least share of a teacher",
}
AMOUNTS = FuncFormatter(lambda value, _: fine(value))
NOT_MEASURED = {
    "constraints": "the assignment had no limits (<code>assignment</code>).",
}
"""Why a part may be missing, in HTML."""


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


@dataclass(frozen=True)
class LimitRow:
    """One limit and what the assignment uses of it."""

    name: str
    limit: float | None
    used: float | None

    @property
    def is_tight(self) -> bool:
        """Whether the limit is used up; so it is for the least of something too."""
        if self.limit is None or self.used is None:
            return False
        return abs(self.used - self.limit) <= NEAR * abs(self.limit)


def limit_rows(constraints: LimitsSummary) -> list[LimitRow]:
    """Every limit with its use, in the order of the recipe."""
    names = dict.fromkeys([*constraints["limits"], *constraints["used"]])
    return [
        LimitRow(limit_label(name), constraints["limits"].get(name), constraints["used"].get(name))
        for name in names
    ]


def limit_label(name: str) -> str:
    """A limit by what it limits: assignment.max_gpu_seconds is GPU-seconds."""
    bare = name.removeprefix("assignment.")
    return LABELS.get(bare, bare)


def quantity(value: float | None) -> str:
    """An amount: shares and cents with their decimals, large ones in three figures."""
    if value is None or abs(value) >= 1000:
        return compact(value)
    return number(value, 0 if value == round(value) else 3 if abs(value) < 1 else 2)


def lost_share(constraints: LimitsSummary) -> float | None:
    """What the limits cost, in parts of the value without any; 0 where none binds."""
    value, most = constraints["value"], constraints["unconstrained_value"]
    return None if value is None or not most else max(0.0, most - value) / abs(most)


def gap_share(constraints: LimitsSummary) -> float | None:
    """The most that any assignment within the limits could gain, in parts of its bound."""
    gap, bound = constraints["gap"], constraints["bound"]
    return None if gap is None or not bound else gap / abs(bound)


def binds(constraints: LimitsSummary) -> bool:
    """Whether the limits changed what PerSyn would have chosen."""
    return (lost_share(constraints) or 0.0) > SAME


def chosen_cost(constraints: LimitsSummary, unit: str | None) -> float | None:
    """What the assignment uses in the unit of a front; None where no limit is in that unit."""
    used = {_bare(limit_label(name)): value for name, value in constraints["used"].items()}
    return used.get(_bare(unit or ""))


def _bare(text: str) -> str:
    return text.lower().replace("-", " ").replace("_", " ")


def draw_front(constraints: LimitsSummary | None) -> Figure | None:
    """The most reward of an assignment for each cost, and the one that was chosen."""
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


def limit_sentences(constraints: LimitsSummary | None) -> list[str]:
    """What the limits cost, where they bind."""
    if constraints is None or not binds(constraints):
        return []
    tight = [
        f"{row.name} {quantity(row.used)} of {quantity(row.limit)}"
        for row in limit_rows(constraints)
        if row.is_tight
    ]
    which = f" ({', '.join(tight)})" if tight else ""
    lost, gap = share(lost_share(constraints)), gap_share(constraints)
    bound = "" if gap is not None and 0 < gap < TINY else "at most "
    proof = f"; any other within them gains {bound}{share(gap)}" if gap else ""
    return [
        f"The limits on PerSyn's assignment bind{which}: its summed predicted reward is {lost} "
        f"below that without limits{proof}."
    ]


def share(value: float | None) -> str:
    """A share in percent, where a tiny one is not written as nothing."""
    return f"less than {percent(0.001)}" if value and 0 < value < TINY else percent(value)


FILTERS = (binds, gap_share, lost_share, quantity, share)
"""Functions that the template calls."""
