"""Part of sections router and training: loss curves as report.json holds them, and their figure.

In report.json:

    loss_curve [{step (of the optimiser), train_loss, heldout_loss}], by step
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persyn_ray.report import drawing
from persyn_ray.report.drawing import DASHED, WIDTH
from persyn_ray.storage.results import TrainingLoss

MOST_MARKED = 20  # points of a curve that are marked one by one


class LossPoint(TypedDict):
    step: float
    train_loss: float | None
    heldout_loss: float | None


@dataclass(frozen=True)
class LossLine:
    """One line of the figure: losses of one kind."""

    curve: Sequence[LossPoint]
    key: Literal["train_loss", "heldout_loss"]
    colour: str
    label: str | None = None
    """In the legend; None leaves it out."""
    is_minor: bool = False
    """Drawn thin and dashed, beside a line of the same colour."""

    def known(self) -> list[tuple[float, float]]:
        """Steps and losses, where one was measured."""
        return [*_measured(self.curve, self.key)]


def loss_points(curve: Sequence[TrainingLoss]) -> list[LossPoint]:
    """A loss curve as the report holds it."""
    return [
        {"step": at.step, "train_loss": at.train_loss, "heldout_loss": at.heldout_loss}
        for at in curve
    ]


def draw_losses(lines: Sequence[LossLine], title: str) -> Figure | None:
    """Losses by optimiser step, a line each; None where no line has a point."""
    lines = [line for line in lines if line.known()]
    if not lines:
        return None
    figure = Figure(figsize=(WIDTH, 2.6))
    axes = figure.subplots()
    for line in lines:
        steps, losses = zip(*line.known(), strict=True)
        axes.plot(
            steps,
            losses,
            color=line.colour,
            label=line.label,
            linewidth=1.2 if line.is_minor else 1.8,
            linestyle=DASHED if line.is_minor else "-",
            marker="o" if len(steps) <= MOST_MARKED and not line.is_minor else "",
            markersize=3.5,
        )
    drawing.value_grid(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("optimiser step")
    axes.set_title(title)
    axes.legend(loc="upper right", ncols=2)
    return figure


def _measured(
    curve: Sequence[LossPoint], key: Literal["train_loss", "heldout_loss"]
) -> Iterator[tuple[float, float]]:
    for point in curve:
        loss = point[key]
        if loss is not None:
            yield point["step"], loss
