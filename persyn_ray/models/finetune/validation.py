"""Follows the loss on the examples kept from training: the best student so far, and when to stop.

Whatever is decided follows from the losses in the Trainer's log, which every checkpoint holds, so
that a resumed training decides as an undisturbed one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

KeepBest = Callable[[int], None]
"""Keeps the student as it is after so many steps."""


@dataclass(frozen=True)
class Measured:
    """What the losses so far say."""

    best_step: int
    is_last: bool
    """Whether the last measurement is the best."""
    num_since: int
    """Measurements since the best one."""


def measured(history: Sequence[Mapping[str, Any]]) -> Measured | None:
    """The first of the least losses in the Trainer's log; None before any is measured.

    A loss that is no number is worse than any other.
    """
    found = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    if not found:
        return None
    losses = [loss if isfinite(loss) else inf for _, loss in found]
    best = losses.index(min(losses))
    num_since = len(losses) - 1 - best
    return Measured(int(found[best][0]), num_since == 0, num_since)


class FollowLoss(TrainerCallback):
    """Keeps the student whenever it is the best so far, and stops a training that gets no better.

    Args:
        patience: measurements without a lower loss before it stops; None never stops.
        keep_best: called on all workers.
    """

    def __init__(self, patience: int | None, keep_best: KeepBest | None) -> None:
        self._patience, self._keep_best = patience, keep_best

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After a measurement, which stands in the log."""
        found = measured(state.log_history)
        if found is None:
            return
        if found.is_last and self._keep_best is not None:
            self._keep_best(found.best_step)
        if self._patience is not None and found.num_since >= self._patience:
            control.should_training_stop = True
