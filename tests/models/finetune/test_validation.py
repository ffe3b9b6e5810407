"""The best student and the end of a training, by the losses in the Trainer's log."""

from types import SimpleNamespace
from typing import Any

import pytest

from persyn_ray.models.finetune.validation import FollowLoss, measured


def log(losses: list[float]) -> list[dict[str, Any]]:
    """As the Trainer writes it: a measurement every five steps, training losses between."""
    found: list[dict[str, Any]] = []
    for number, loss in enumerate(losses, 1):
        found += [{"step": 5 * number, "loss": 1.0}, {"step": 5 * number, "eval_loss": loss}]
    return found


@pytest.mark.parametrize(
    ("losses", "best_step", "num_since"),
    [
        ([0.9], 5, 0),
        ([0.9, 0.8, 0.7], 15, 0),
        ([0.9, 0.7, 0.8, 0.7], 10, 2),  # an equal one later is no better
        ([float("nan"), 0.8, float("nan")], 10, 1),
    ],
)
def test_the_first_of_the_least_losses_is_the_best(
    losses: list[float], best_step: int, num_since: int
) -> None:
    found = measured(log(losses))
    assert found is not None
    assert (found.best_step, found.num_since) == (best_step, num_since)
    assert found.is_last == (num_since == 0)


def test_nothing_is_best_before_anything_is_measured() -> None:
    assert measured([{"step": 1, "loss": 0.5}]) is None


def followed(losses: list[float], patience: int | None) -> tuple[list[int], int | None]:
    """Steps at which the student was kept, and after which training was to stop."""
    kept: list[int] = []
    callback: Any = FollowLoss(patience, kept.append)
    for number in range(1, len(losses) + 1):
        state = SimpleNamespace(log_history=log(losses[:number]))
        control = SimpleNamespace(should_training_stop=False)
        callback.on_evaluate(None, state, control)
        if control.should_training_stop:
            return kept, 5 * number
    return kept, None


def test_a_training_ends_when_it_has_not_got_better_for_so_long() -> None:
    losses = [0.9, 0.7, 0.8, 0.75, 0.6, 0.7, 0.7]
    assert followed(losses, 2) == ([5, 10], 20)
    assert followed(losses, 3) == ([5, 10, 25], None)
    assert followed(losses, None) == ([5, 10, 25], None)


def test_a_training_that_gets_better_all_along_does_not_end() -> None:
    assert followed([0.9, 0.8, 0.7, 0.6], 1) == ([5, 10, 15, 20], None)
