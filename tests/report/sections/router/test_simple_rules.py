"""The summary says where a rule without a fitted router is as good."""

from typing import Any, cast

from persyn_ray.report.sections.router.ranking import RouterSummary, ranking_sentences


def told(differences: dict[str, tuple[float, float, float]]) -> str:
    content: dict[str, Any] = {
        "hit_at_1": None,
        "num_heldout": 100,
        "chance_at_1": None,
        "differences": {
            name: {"value": value, "low": low, "high": high}
            for name, (value, low, high) in differences.items()
        },
    }
    return " ".join(ranking_sentences(cast(RouterSummary, content)))


def test_a_rule_that_is_not_clearly_worse_is_named() -> None:
    said = told({"best_constant": (0.05, 0.02, 0.08), "task_constant": (-0.01, -0.03, 0.01)})
    assert "simple rule is as good as the router here: best teacher per task" in said
    assert "persyn screen" in said


def test_a_router_above_every_rule_is_left_in_peace() -> None:
    said = told({"best_constant": (0.05, 0.02, 0.08), "task_constant": (0.03, 0.01, 0.05)})
    assert "simple rule" not in said


def test_the_oracle_and_random_are_no_rules() -> None:
    said = told({"oracle": (-0.1, -0.2, -0.05), "random": (0.0, -0.1, 0.1)})
    assert "simple rule" not in said
