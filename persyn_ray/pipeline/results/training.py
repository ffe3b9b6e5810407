"""Collects how students were trained: the facts that step finetune has left in, a section out."""

from collections.abc import Mapping

from persyn_ray.report.sections.loss_curves import loss_points
from persyn_ray.report.sections.training import StudentTraining, Training
from persyn_ray.storage.results import TunedStudent


def gather_training(facts: Mapping[str, TunedStudent]) -> Training:
    """Examples, steps and losses of every method's student."""
    return {"methods": {method: _of(tuned) for method, tuned in facts.items()}}


def _of(tuned: TunedStudent) -> StudentTraining:
    measured = [at.heldout_loss for at in tuned.loss_curve if at.heldout_loss is not None]
    return {
        "num_examples": tuned.num_examples,
        "num_heldout": tuned.num_heldout,
        "num_steps": tuned.num_steps,
        "kept_step": tuned.kept_step,
        "is_stopped_early": tuned.is_stopped_early,
        "best_heldout_loss": min(measured, default=None),
        "loss_curve": loss_points(tuned.loss_curve),
    }
