from typing import Any, get_args

import pytest

from persyn_ray.recipe.comparison import SELECTING, Method
from persyn_ray.report.content import complete
from persyn_ray.report.estimate import verdict
from persyn_ray.report.methods import LABELS, SIMPLER, ordered
from persyn_ray.report.summary import headline, paragraph

PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


def text(content: dict[str, Any]) -> str:
    return " ".join(paragraph(complete(content))).translate(PLAIN)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.1, "higher"),
        (-0.1, -0.01, "lower"),
        (-0.01, 0.1, "unclear"),
        (0.0, 0.1, "unclear"),
        (-0.1, 0.0, "unclear"),
        (None, None, "unclear"),
    ],
)
def test_only_an_interval_without_zero_is_a_claim(low: Any, high: Any, expected: str) -> None:
    assert verdict({"value": 0.05, "low": low, "high": high}) == expected


def test_nothing_measured_is_no_claim() -> None:
    assert verdict(None) == "unmeasured"
    assert verdict({"value": None, "low": 0.1, "high": 0.2}) == "unmeasured"


def test_a_win_is_told_with_its_interval(content: dict[str, Any]) -> None:
    summary = text(content)
    assert "the best constant teacher (+0.10; 0.07-0.14)" in summary
    assert "This accuracy is higher than with no fine-tuning" in summary
    assert "speaks against" not in summary


def test_an_interval_around_zero_is_no_clear_difference(content: dict[str, Any]) -> None:
    content["student"]["differences"]["best_constant"].update(value=0.02, low=-0.01, high=0.05)
    content["router"]["differences"]["best_constant"].update(value=0.02, low=-0.01, high=0.05)
    summary = text(content)
    assert (
        "routed reward shows no clear difference from the best constant teacher (+0.02" in summary
    )
    assert "accuracy shows no clear difference from the best constant teacher (+0.02" in summary


def test_a_loss_is_said_plainly(content: dict[str, Any]) -> None:
    content["student"]["differences"]["random"].update(value=-0.05, low=-0.08, high=-0.02)
    summary = text(content)
    assert "is lower than with a random teacher per prompt (-0.05; -0.08 to -0.02)" in summary
    assert "speaks against PerSyn" in summary


def test_losing_to_the_oracle_is_no_refutation(content: dict[str, Any]) -> None:
    content["student"]["differences"]["oracle"].update(value=-0.05, low=-0.08, high=-0.02)
    assert "is lower than with the oracle" in text(content)
    assert "speaks against" not in text(content)


def test_losing_to_what_selects_is_no_refutation_and_to_a_probe_it_is(
    content: dict[str, Any],
) -> None:
    student = content["student"]
    lost = {"value": -0.05, "low": -0.08, "high": -0.02}
    for method, refuted in (("quality_only", False), ("hedged", False), ("linear_probe", True)):
        student["methods"][method] = student["methods"]["oracle"]
        student["differences"][method] = lost
        assert ("speaks against" in text(content)) == refuted
    assert "is lower than with a linear probe (-0.05" in text(content)
    assert "selection by quality alone (-0.05" in text(content)


def test_separate_intervals_must_not_overlap_for_a_claim(content: dict[str, Any]) -> None:
    content["student"]["differences"] = {}
    content["student"]["methods"]["best_constant"].update(value=0.74, low=0.70, high=0.775)
    rows = {row.method: row for row in headline(complete(content))}
    assert verdict(rows["strong"].difference) == "higher"
    assert verdict(rows["best_constant"].difference) == "unclear"
    assert rows["persyn"].difference is None


def test_tokens_saved_and_tokens_lost(content: dict[str, Any]) -> None:
    assert (
        "440 k teacher tokens against an estimated 1.63 M of generate-then-select: 73 % fewer"
        in text(content)
    )
    content["tokens"].update(saving_fraction=-0.25, estimated=False)
    assert "against 1.63 M of generate-then-select: 25 % more" in text(content)


def test_incomplete_responses_are_told_and_nothing_is_said_without_any(
    content: dict[str, Any],
) -> None:
    summary = text(content)
    assert (
        "9,437 prompts became examples; 31 responses were cut by the token limit, 12 are absent, "
        "2 had no teacher left." in summary
    )
    assert "54 prompts went to a next-best teacher" in summary
    counts = content["examples"]["methods"]["persyn"]
    counts.update(truncated=0, without_response=0, without_teacher=0, reassigned=0)
    assert "became examples" not in text(content)
    assert "next-best" not in text(content)
    counts.update(kept_truncated=7)
    assert "7 of the 9,437 examples were cut and kept so." in text(content)


def test_an_empty_run_says_so() -> None:
    assert text({}) == "Nothing was measured in this run."
    assert headline(complete({})) == []


def test_methods_keep_one_order() -> None:
    assert ordered({"persyn", "zeta", "before", "oracle", "random", "quality_only"}) == [
        "before",
        "random",
        "persyn",
        "quality_only",
        "oracle",
        "zeta",
    ]


def test_every_method_of_a_recipe_has_a_label() -> None:
    methods = get_args(Method)
    assert set(methods) | {"before", "persyn", "hedged"} == set(LABELS)
    shown = ordered({*methods, "persyn", "hedged"})
    assert set(shown[shown.index("hedged") + 1 :]) == set(SELECTING)
    assert set(SIMPLER) == set(methods) - set(SELECTING)


def test_the_headline_meets_methods_by_name(content: dict[str, Any]) -> None:
    del content["student"]["methods"]["strong"]
    rows = {row.method: row for row in headline(complete(content))}
    assert rows["strong"].accuracy is None
    assert rows["strong"].reward is not None
    assert rows["before"].reward is None
    assert rows["persyn"].correct_share == 0.976
