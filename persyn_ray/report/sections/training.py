"""Section training: how the students were trained, and the curves of their losses.

In report.json:

    training      methods {method: {num_examples, num_heldout, num_steps, kept_step (whose student
                  was exported), is_stopped_early, best_heldout_loss,
                  loss_curve [{step, train_loss, heldout_loss}]}}
"""

from typing import TypedDict

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persyn_ray.report import drawing
from persyn_ray.report.drawing import DASHED, WIDTH
from persyn_ray.report.methods import label, ordered
from persyn_ray.report.sections.router.ranking import LossPoint

NOT_MEASURED = {
    "training": "no student was fine-tuned (step <code>finetune</code>).",
    "training_curves": "the training left no curves: they have a point every ten optimiser steps.",
}
"""Why a part may be missing, in HTML."""


class StudentTraining(TypedDict):
    num_examples: int | None
    num_heldout: int | None
    num_steps: int | None
    kept_step: int | None
    is_stopped_early: bool | None
    best_heldout_loss: float | None
    loss_curve: list[LossPoint]


class Training(TypedDict):
    methods: dict[str, StudentTraining]


def draw_training(training: Training | None) -> Figure | None:
    """Loss of every student by optimiser step, in training and on the examples kept from it."""
    methods = training["methods"] if training else {}
    found = {name: one["loss_curve"] for name, one in methods.items()}
    names = [name for name in ordered(found) if found[name]]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, 2.8))
    axes = figure.subplots()
    for name in names:
        colour, points = drawing.method_colour(name), found[name]
        learned = [(at["step"], at["train_loss"]) for at in points if at["train_loss"] is not None]
        kept = [(at["step"], at["heldout_loss"]) for at in points if at["heldout_loss"] is not None]
        if learned:
            style = DASHED if kept else "-"
            axes.plot(*zip(*learned, strict=True), color=colour, linewidth=1.2, linestyle=style)
        if kept:
            axes.plot(
                *zip(*kept, strict=True), color=colour, linewidth=1.8, marker="o", markersize=3
            )
        axes.plot([], [], color=colour, linewidth=1.8, label=label(name))
    drawing.value_grid(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("optimiser step")
    axes.set_title("loss, nats per response token")
    axes.legend(loc="upper right", ncols=2)
    return figure
