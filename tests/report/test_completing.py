"""Plain values in the types that document them: what is missing, unknown, or no number."""

import json
import math
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.report.completing import completed


class Part(TypedDict):
    name: str | None
    size: int | None


class Whole(TypedDict):
    share: float | None
    is_new: bool | None
    parts: list[Part]
    by_name: dict[str, Part]
    first: Part | None


class Required(TypedDict):
    part: Part


EMPTY = {
    "share": None,
    "is_new": None,
    "parts": [],
    "by_name": {},
    "first": None,
}


def whole(value: Any) -> Any:
    return completed(value, Whole, "report")


def test_what_is_missing_is_null_or_empty() -> None:
    assert whole({}) == EMPTY
    assert whole({"first": {}})["first"] is None
    assert whole({"parts": [{"name": "a"}]})["parts"] == [{"name": "a", "size": None}]


def test_a_part_that_may_not_be_missing_is_asked_for() -> None:
    with pytest.raises(DataError, match=r"report\.part is None; expected a mapping"):
        completed({}, Required, "report")


def test_keys_of_a_mapping_are_texts() -> None:
    assert whole({"by_name": {7: {"size": 1}}})["by_name"] == {"7": {"name": None, "size": 1}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_null(value: float) -> None:
    assert whole({"share": value})["share"] is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"sharp": 1}, r"report holds the keys \['sharp'\]"),
        ({"parts": [{"name": "a"}, {"nam": "b"}]}, r"report\.parts\[1\] holds the keys"),
        ({"by_name": {"x": {"size": "1"}}}, r"report\.by_name\.x\.size is '1' \(str\); .* int"),
        ({"share": True}, r"report\.share is True \(bool\); expected float"),
        ({"is_new": 1}, r"report\.is_new is 1 \(int\); expected bool"),
        ({"parts": {}}, r"report\.parts is {}; expected a list"),
        ({"by_name": []}, r"report\.by_name is \[\]; expected a mapping"),
        ({"first": "text"}, r"report\.first is 'text'; expected a mapping"),
    ],
)
def test_what_the_types_do_not_know_is_refused_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        whole(value)


parts = st.fixed_dictionaries(
    {}, optional={"name": st.none() | st.text(), "size": st.none() | st.integers()}
)
wholes = st.fixed_dictionaries(
    {},
    optional={
        "share": st.none() | st.floats() | st.integers(),
        "is_new": st.none() | st.booleans(),
        "parts": st.none() | st.lists(parts, max_size=3),
        "by_name": st.dictionaries(st.text(), parts, max_size=3),
        "first": st.none() | parts,
    },
)


@given(wholes)
def test_a_completed_value_is_json_and_stays_as_it_is(value: Any) -> None:
    found = whole(value)
    assert set(found) == set(EMPTY)
    json.dumps(found, allow_nan=False)
    assert whole(found) == found


@given(wholes, st.text().filter(lambda key: key not in EMPTY))
def test_no_unknown_key_is_dropped(value: Any, key: str) -> None:
    with pytest.raises(DataError):
        whole(value | {key: None})
