from typing import Any

import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.sections.router.claims import (
    CalibrationSummary,
    NoveltySummary,
    claim_sentences,
    is_off,
    miscalibration,
    novelty_sentence,
)

PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


def sentences(content: dict[str, Any]) -> str:
    router = complete({"router": content["router"]})["router"]
    assert router is not None
    return " ".join(claim_sentences(router["calibration"], router["novelty"])).translate(PLAIN)


def calibration(values: dict[str, Any]) -> CalibrationSummary:
    router = complete({"router": {"calibration": values}})["router"]
    assert router is not None
    assert router["calibration"] is not None
    return router["calibration"]


def novelty(values: dict[str, Any]) -> NoveltySummary:
    router = complete({"router": {"novelty": values}})["router"]
    assert router is not None
    assert router["novelty"] is not None
    return router["novelty"]


def test_claims_that_miss_by_more_than_chance_are_told(content: dict[str, Any]) -> None:
    assert (
        "claims that one teacher beats another are overconfident: they miss by 0.06 (0.04-0.08) on "
        "average, where chance alone gives 0.02; scaled by a temperature, they miss by 0.02 "
        "(0.00-0.04)." in sentences(content)
    )
    content["router"]["calibration"].update(scaled_ece=None, temperature=0.5)
    assert "are underconfident: they miss by" in sentences(content)
    assert "scaled" not in sentences(content)


def test_claims_within_chance_or_without_an_interval_are_not_told(content: dict[str, Any]) -> None:
    content["router"]["calibration"]["ece"].update(value=0.02, low=0.0, high=0.05)
    assert "beats another" not in sentences(content)
    content["router"]["calibration"] = None
    assert "beats another" not in sentences(content)


@pytest.mark.parametrize(
    ("value", "low", "noise", "expected"),
    [
        (0.06, 0.02, 0.03, True),
        (0.06, 0.0, 0.03, False),
        (0.06, None, 0.03, False),
        (0.06, 0.02, 0.07, False),
        (0.06, 0.02, None, False),
        (None, 0.02, 0.01, False),
    ],
)
def test_off_needs_an_interval_above_zero_and_more_than_chance(
    value: Any, low: Any, noise: Any, expected: bool
) -> None:
    ece = {"value": value, "low": low, "high": 0.1}
    assert is_off(calibration({"ece": ece, "noise": noise})) == expected


def test_the_temperature_says_which_way() -> None:
    shown = [
        miscalibration(calibration({"noise": 0.1, "temperature": t})) for t in (2.0, 0.5, 1.0, None)
    ]
    assert shown == ["overconfident", "underconfident", "off", "off"]


@pytest.mark.parametrize(("share", "told"), [(0.05, False), (0.0501, True), (None, False)])
def test_much_novelty_among_routed_prompts_is_told(
    content: dict[str, Any], share: float | None, told: bool
) -> None:
    content["router"]["novelty"]["by_split"].update(routed=share, heldout=0.9)
    assert ("of the routed prompts are unlike the parallel set" in sentences(content)) == told


def test_splits_that_were_looked_at_are_named() -> None:
    whole = novelty({"by_split": {"parallel": 0.01, "routed": 0.12, "heldout": 0.0}})
    assert novelty_sentence(whole).translate(PLAIN) == (
        "12 % of the routed prompts are unlike the parallel set, 0 % of the held-out prompts, "
        "1.0 % of the parallel set itself."
    )
    one = novelty({"by_split": {"parallel": 0.01}})
    assert novelty_sentence(one).translate(PLAIN) == (
        "1.0 % of the parallel set itself are unlike the parallel set."
    )
    assert novelty_sentence(novelty({"by_task": {"math": 0.1}})) == "No split was looked at."


def test_no_router_no_sentence() -> None:
    assert claim_sentences(None, None) == []
