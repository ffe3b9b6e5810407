from typing import Any

import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.sections.limits import (
    LimitsSummary,
    binds,
    chosen_cost,
    gap_share,
    limit_label,
    limit_rows,
    limit_sentences,
    lost_share,
    quantity,
    share,
)

PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


def section(values: dict[str, Any]) -> LimitsSummary:
    constraints = complete({"constraints": values})["constraints"]
    assert constraints is not None
    return constraints


def sentence(content: dict[str, Any]) -> str:
    report = complete({"constraints": content["constraints"]})
    return " ".join(limit_sentences(report["constraints"])).translate(PLAIN)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("max_tokens", "tokens"),
        ("assignment.max_gpu_seconds", "GPU-seconds"),
        ("min_share", "least share of a teacher"),
        ("capacity of my_teacher", "capacity of my_teacher"),
    ],
)
def test_a_limit_is_called_by_what_it_limits(name: str, label: str) -> None:
    assert limit_label(name) == label


def test_used_up_is_near_the_limit_from_either_side() -> None:
    limits = {"max_tokens": 1000, "max_dollars": 10, "min_share": 0.02, "capacity of a": None}
    used = {"max_tokens": 995, "max_dollars": 9.5, "min_share": 0.0201}
    rows = limit_rows(section({"limits": limits, "used": used}))
    assert [row.is_tight for row in rows] == [True, False, True, False]
    assert [row.used for row in rows] == [995, 9.5, 0.0201, None]


def test_limits_that_bind_are_told_with_what_they_cost(content: dict[str, Any]) -> None:
    assert sentence(content) == (
        "The limits on PerSyn's assignment bind (tokens 120 k of 120 k, capacity of "
        "weak-generalist 4,000 of 4,000): its summed predicted reward is 5.1 % below that without "
        "limits; any other within them gains less than 0.1 %."
    )
    content["constraints"].update(gap=140.0, bound=7152.4)
    assert "any other within them gains at most 2.0 %." in sentence(content)


def test_limits_that_do_not_bind_are_not_told(content: dict[str, Any]) -> None:
    content["constraints"]["unconstrained_value"] = content["constraints"]["value"]
    assert sentence(content) == ""
    content["constraints"]["unconstrained_value"] = None
    assert sentence(content) == ""


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_lost_is_a_part_of_what_was_possible(sign: int) -> None:
    values = {"unconstrained_value": 200.0 * sign, "value": 200.0 * sign - 50, "gap": 10.0}
    values["bound"] = values["value"] + values["gap"]
    constraints = section(values)
    assert lost_share(constraints) == pytest.approx(0.25)
    assert gap_share(constraints) == pytest.approx(10 / abs(values["bound"]))
    assert binds(constraints)


def test_rounding_is_no_loss_and_nothing_known_is_no_claim() -> None:
    assert not binds(section({"value": 1e6 - 1e-5, "unconstrained_value": 1e6}))
    assert not binds(section({"value": 10.0}))
    assert gap_share(section({"value": 10.0, "gap": 0.0, "bound": 10.0})) == 0
    assert gap_share(section({"value": 10.0})) is None
    assert gap_share(section({"gap": 1.0, "bound": 0.0})) is None


@pytest.mark.parametrize("unit", ["GPU-seconds", "gpu_seconds", "GPU seconds"])
def test_a_front_meets_its_limit_by_the_unit(unit: str) -> None:
    constraints = section({"used": {"max_tokens": 7.0, "assignment.max_gpu_seconds": 3.0}})
    assert chosen_cost(constraints, unit) == 3.0
    assert chosen_cost(constraints, "tokens") == 7.0
    assert chosen_cost(constraints, "dollars") is None
    assert chosen_cost(constraints, None) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0, "0"), (0.02, "0.020"), (2.5, "2.50"), (800, "800"), (1_200_000, "1.2 M")],
)
def test_amounts_keep_the_decimals_that_matter(value: float | None, shown: str) -> None:
    assert quantity(value).translate(PLAIN) == shown


def test_a_tiny_share_is_not_nothing() -> None:
    shown = [share(value).translate(PLAIN) for value in (None, 0.0, 1e-6, 0.002)]
    assert shown == ["-", "0 %", "less than 0.1 %", "0.2 %"]
