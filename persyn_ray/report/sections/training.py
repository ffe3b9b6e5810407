"""Section training: how the students were trained, and the curves of their losses.

In report.json:

    training      methods {method: {num_examples, num_heldout, num_steps, kept_step (whose student
                  was exported), is_stopped_early, best_heldout_loss,
                  loss_curve (loss_curves.py)}}
"""

from collections.abc import Iterator
from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.methods import label, ordered
from persyn_ray.report.sections.loss_curves import LossLine, LossPoint, draw_losses

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
    lines = [line for name in ordered(methods) for line in _lines(name, methods[name])]
    return draw_losses(lines, "loss, nats per response token")


def _lines(method: str, student: StudentTraining) -> Iterator[LossLine]:
    """The loss on kept examples with that in training beside it, or the latter alone."""
    colour, curve = drawing.method_colour(method), student["loss_curve"]
    kept = LossLine(curve, "heldout_loss", colour, label(method))
    if not kept.known():
        yield LossLine(curve, "train_loss", colour, label(method))
        return
    yield LossLine(curve, "train_loss", colour, is_minor=True)
    yield kept
