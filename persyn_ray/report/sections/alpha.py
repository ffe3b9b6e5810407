"""Section alpha: what the oracle would choose for other weights of learnability.

In report.json:

    alpha_sweep   reference_alpha, points [{alpha, shares {teacher: share}, agreement,
                  mean_quality, mean_learnability}]
"""

from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import DASHED, INK, PERCENT, WIDTH
from persyn_ray.report.sections.allocation import (
    Allocation,
    Shares,
    bands_of,
    legend_columns,
    legend_height,
)

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
NOT_MEASURED = {
    "alpha_sweep": "no learnability was measured (<code>scoring.measure</code>).",
}
"""Why a part may be missing, in HTML."""


class AlphaPoint(TypedDict):
    alpha: float
    shares: Shares
    agreement: float | None
    mean_quality: float | None
    mean_learnability: float | None


class AlphaSweepSummary(TypedDict):
    reference_alpha: float | None
    points: list[AlphaPoint]


def draw_alpha(sweep: AlphaSweepSummary | None, allocation: Allocation | None) -> Figure | None:
    """The oracle's allocation by alpha, and its agreement with the choice at the run's alpha."""
    points = sweep["points"] if sweep else []
    if sweep is None or not points:
        return None
    alphas = [point["alpha"] for point in points]
    bands = bands_of(allocation, [point["shares"] for point in points])
    figure = Figure(figsize=(WIDTH, 3.3 + legend_height(bands)))
    stack, agreement = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    names, colours = (
        [name for name, _, _ in bands],
        [colour for _, colour, _ in bands],
    )
    values = [shares for _, _, shares in bands]
    stack.stackplot(
        alphas, values, labels=names, colors=colours, edgecolor=drawing.SURFACE, linewidth=0.6
    )
    stack.set_ylim(0, 1)
    stack.set_title("oracle's allocation")
    known = [
        (point["alpha"], point["agreement"]) for point in points if point["agreement"] is not None
    ]
    agreement.plot(
        [at for at, _ in known],
        [value for _, value in known],
        "-o",
        color=INK,
        markersize=4,
        clip_on=False,
    )
    agreement.set_title("same teacher as at the run's alpha")
    agreement.set_ylim(-0.08, 1.08)
    for axes in (stack, agreement):
        drawing.value_grid(axes, "y")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlim(alphas[0], alphas[-1] if len(alphas) > 1 else alphas[0] + 1e-9)
        _mark_reference(axes, sweep["reference_alpha"])
    agreement.set_yticks((0, 0.5, 1))
    agreement.set_xlabel(f"{ALPHA}, the weight of learnability")
    figure.legend(
        *stack.get_legend_handles_labels(), loc="outside lower left", ncols=legend_columns(bands)
    )
    return figure


def _mark_reference(axes: Axes, alpha: float | None) -> None:
    if alpha is not None:
        axes.axvline(alpha, color=INK, linewidth=1.1, linestyle=DASHED)
