"""What a quality of one's own may return and raise, and what becomes of the other rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.checks.own_function import (
    LONGEST,
    CallFailed,
    QualityRow,
    called,
    row_by_row,
    stretches,
)


def row(response: str) -> QualityRow:
    return {
        "prompt_id": "p",
        "teacher": "t",
        "messages": [],
        "response": response,
        "reference": None,
        "task": None,
    }


def verdict_on(value: Any) -> tuple[str, float | None, str | None]:
    ((verdict, why),) = called(lambda rows: [value], {}, [row("x")])
    return verdict.outcome, verdict.quality, why


@pytest.mark.parametrize(
    ("value", "quality"),
    [(1, 1.0), (0.25, 0.25), (True, 1.0), (np.float32(0.5), 0.5), (np.array(2), 2.0)],
)
def test_numbers_of_any_library_are_qualities(value: Any, quality: float) -> None:
    assert verdict_on(value) == ("scored", quality, None)


@pytest.mark.parametrize(
    ("value", "outcome", "why"),
    [
        (None, "unknown", None),
        (math.nan, "failed", "returned nan; None says that a quality is unknown"),
        (math.inf, "failed", "returned inf; None says that a quality is unknown"),
        ("0.5", "failed", "returned '0.5', which is no number"),
        ([0.5], "failed", "returned [0.5], which is no number"),
        (1j, "failed", "returned 1j, which is no number"),
    ],
)
def test_anything_else_is_unknown_with_its_reason(value: Any, outcome: str, why: str) -> None:
    assert verdict_on(value) == (outcome, None, why)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda rows: [1.0], "returned 1 values for 2 rows"),
        (lambda rows: 1.0, "returned float, not a value for each row"),
        (lambda rows: "ab", "returned str, not a value for each row"),
        (lambda rows: {"a": 1, "b": 2}, "returned dict, not a value for each row"),
        (lambda rows: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_call_gives_one_value_for_each_row_or_fails(
    function: Callable[..., Any], told: str
) -> None:
    with pytest.raises(CallFailed) as raised:
        called(function, {}, [row("a"), row("b")])
    assert raised.value.args == ("failed", told)


def test_settings_are_given_by_name_and_rows_may_be_changed_at_will() -> None:
    given_rows = [row("a")]

    def careless(rows: list[dict[str, Any]], *, weight: float) -> list[float]:
        rows[0]["response"] = "other"
        return [weight]

    ((verdict, _),) = called(careless, {"weight": 0.3}, given_rows)
    assert verdict.quality == 0.3
    assert given_rows[0]["response"] == "a"
    with pytest.raises(CallFailed, match="TypeError"):
        called(careless, {"wieght": 0.3}, given_rows)


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_a_bad_row_costs_no_other(are_good: list[bool]) -> None:
    calls: list[int] = []

    def picky(rows: Sequence[dict[str, Any]]) -> list[float]:
        calls.append(len(rows))
        if any(one["response"] == "bad" for one in rows):
            raise ValueError("bad row")
        return [1.0] * len(rows)

    rows = [row("good" if good else "bad") for good in are_good]
    found = row_by_row(lambda some: called(picky, {}, some), rows)
    assert [verdict.quality for verdict, _ in found] == [1.0 if good else None for good in are_good]
    assert [why for _, why in found if why] == ["ValueError: bad row"] * are_good.count(False)
    assert len(calls) == 1 if all(are_good) or len(rows) == 1 else len(calls) == 1 + len(rows)


def test_what_went_wrong_is_kept_short_and_without_keys() -> None:
    secret = "sk-" + "a1B2" * 12

    def leaky(rows: Any) -> list[float]:
        raise RuntimeError(f"refused {secret} " + "x" * 2 * LONGEST)

    ((_, why),) = row_by_row(lambda some: called(leaky, {}, some), [row("a")])
    assert why is not None
    assert len(why) <= LONGEST
    assert secret not in why


@given(st.lists(st.integers()), st.integers(1, 7))
def test_stretches_are_all_items_in_order(items: list[int], size: int) -> None:
    found = list(stretches(items, size))
    assert [item for some in found for item in some] == items
    assert all(len(some) == size for some in found[:-1])
    assert all(found)
