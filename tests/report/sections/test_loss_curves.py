import pytest

from persyn_ray.report.methods import label
from persyn_ray.report.sections.loss_curves import (
    MOST_MARKED,
    LossLine,
    LossPoint,
    draw_losses,
    loss_points,
)
from persyn_ray.report.sections.training import StudentTraining, draw_training
from persyn_ray.storage.results import TrainingLoss


def points(*losses: tuple[float | None, float | None]) -> list[LossPoint]:
    return loss_points(
        [
            TrainingLoss(step=10 * (n + 1), train_loss=train, heldout_loss=heldout)
            for n, (train, heldout) in enumerate(losses)
        ]
    )


def student(curve: list[LossPoint]) -> StudentTraining:
    return {
        "num_examples": None,
        "num_heldout": None,
        "num_steps": None,
        "kept_step": None,
        "is_stopped_early": None,
        "best_heldout_loss": None,
        "loss_curve": curve,
    }


def test_a_line_goes_through_what_was_measured() -> None:
    curve = points((1.0, None), (None, 0.9), (0.5, 0.8))
    figure = draw_losses([LossLine(curve, "train_loss", "red", "fit")], "loss")
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert [*map(tuple, line.get_xydata().tolist())] == [(10, 1.0), (30, 0.5)]  # pyright: ignore


def test_a_line_without_a_point_has_no_place_in_the_legend() -> None:
    curve = points((1.0, None), (0.5, None))
    lines = [LossLine(curve, "train_loss", "red", "fit"), LossLine(curve, "heldout_loss", "k", "h")]
    figure = draw_losses(lines, "loss")
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["fit"]
    assert draw_losses(lines[1:], "loss") is None


@pytest.mark.parametrize("num", [MOST_MARKED, MOST_MARKED + 1])
def test_points_are_marked_as_long_as_they_are_few(num: int) -> None:
    curve = points(*[(1.0, None)] * num)
    figure = draw_losses([LossLine(curve, "train_loss", "red", "fit")], "loss")
    assert figure is not None
    assert (figure.axes[0].lines[0].get_marker() == "o") is (num <= MOST_MARKED)


def test_each_student_is_named_once_by_the_loss_that_it_is_judged_by() -> None:
    both, alone = points((1.0, 0.9), (0.8, 0.7)), points((1.0, None))
    figure = draw_training({"methods": {"persyn": student(both), "random": student(alone)}})
    assert figure is not None
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert {label("persyn"), label("random")} <= set(drawn)
    assert [y for _, y in drawn[label("persyn")].get_xydata().tolist()] == [0.9, 0.7]  # pyright: ignore
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2


def test_students_without_curves_draw_nothing() -> None:
    assert draw_training({"methods": {"persyn": student([])}}) is None
    assert draw_training(None) is None
