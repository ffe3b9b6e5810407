from math import nan

import pytest

from persyn_ray.method.predictors.effects import VarianceShares
from persyn_ray.report.numbers import NOTHING
from persyn_ray.report.sections.variance import variance_of, variance_sentences


def shares(teacher: float, task_interaction: float | None = 0.05) -> VarianceShares:
    return VarianceShares(
        teacher=teacher, prompt=0.5, interaction=0.3, task_interaction=task_interaction
    )


def test_a_signal_that_does_not_vary_is_left_out() -> None:
    found = variance_of({"reward": shares(0.2), "quality": shares(nan)}, 0.04)
    assert found is not None
    assert set(found["signals"]) == {"reward"}
    assert variance_of({"reward": shares(nan)}, 0.04) is None


def test_the_sentence_says_whose_the_variance_is_and_what_it_bounds() -> None:
    (said,) = variance_sentences(variance_of({"reward": shares(0.2)}, 0.04))
    for part in ("20", "50", "30", "+0.040"):
        assert part in said
    assert said.index("the teacher's") < said.index("the prompt's") < said.index("teacher ×")


@pytest.mark.parametrize("signals", [{}, {"quality": shares(0.2)}])
def test_without_rewards_nothing_is_said(signals: dict[str, VarianceShares]) -> None:
    assert variance_sentences(variance_of(signals, 0.04)) == []
    assert variance_sentences(None) == []


def test_what_an_older_report_lacks_is_shown_as_unmeasured() -> None:
    found = variance_of({"reward": shares(0.2)}, 0.04)
    assert found is not None
    found["signals"]["reward"]["prompt"], found["oracle_gain"] = None, None
    (said,) = variance_sentences(found)
    assert f"{NOTHING} is the prompt's" in said
    assert "at the very most" not in said
