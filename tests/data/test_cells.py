"""Cells as text: what was stored is read, whatever type it was stored in."""

import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.checks.answer_numbers import quantity_of
from persyn_ray.checks.verifier import CORRECT, Verifier
from persyn_ray.data.cells import decoder_of, label_of, text_key, text_of

NOT_SEEN = ["", " ", "\n", "\t\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u200e"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (72, "72"),
        (72.0, "72"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-5, "0.00001"),
        (1.5e-7, "0.00000015"),
        (1e22, "10000000000000000000000"),
        (1e23, "100000000000000000000000"),
        (2.5e100, "2.5E+100"),
        (2**53 + 1, "9007199254740993"),
        (np.float32(0.1), "0.10000000149011612"),  # the column's type is gone: see decoder_of
        (float("nan"), None),
        (float("-inf"), None),
        (Decimal("18.70"), "18.70"),
        (Decimal("72.000"), "72"),
        (Decimal("1E+3"), "1000"),
        (Decimal("NaN"), None),
        (True, "True"),
        (np.bool_(False), "False"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 12, 30), "2024-02-29 12:30:00"),
        (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29 00:00:00+00:00"),
        (["a", Decimal("0.5"), Decimal(3), None], '["a", 0.5, 3, null]'),
        ({"day": date(2024, 2, 29)}, '{"day": "2024-02-29"}'),
        (" x ", " x "),
        (None, None),
    ],
)
def test_a_value_is_written_as_it_was_meant(value: Any, text: str | None) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("number", ["1e5000", "1e99999999", "1.5e400", "-2e4301", "1e-99999999"])
def test_a_number_of_any_size_in_a_list_is_written_as_it_stands(number: str) -> None:
    assert text_of([Decimal(number), 2]) == f'["{Decimal(number)}", 2]'


def test_labels_are_stripped_and_never_empty() -> None:
    assert [label_of(value) for value in (" 5\n", " ", "", None, 5.0)] == ["5", *[None] * 3, "5"]


@pytest.mark.parametrize(
    ("values", "label"),
    [
        (["6"], "6"),
        ([6.0], "6"),
        ([None], None),
        ([], "[]"),
        (["6", "7"], '["6", "7"]'),
        ([{"id": "a"}], '[{"id": "a"}]'),
        ([["6"]], '[["6"]]'),
    ],
)
def test_a_list_of_one_value_is_that_value(values: list[Any], label: str | None) -> None:
    assert label_of(values) == label


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_loses_nothing(value: float) -> None:
    text = text_of(value)
    assert text is not None
    assert float(text) == value


@given(st.floats(1e-30, 1e30) | st.integers(-(10**30), 10**30))
def test_a_number_of_usual_size_is_plain_to_the_check(value: float) -> None:
    text = text_of(value)
    assert text is not None
    assert "e" not in text.lower()
    if len(text) <= 60:
        assert quantity_of(text) is not None


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([0.1, None, 7.5], pa.float32(), [0.1, None, 7.5]),
        ([np.float16(0.1)], pa.float16(), [0.1]),
        ([0.1], pa.float64(), [0.1]),
        ([[0.1, None], None], pa.list_(pa.float32()), [[0.1, None], None]),
        ([[0.1, 0.2]], pa.list_(pa.float32(), 2), [[0.1, 0.2]]),
        ([{"a": 0.1, "b": "x"}], pa.struct({"a": pa.float32(), "b": pa.string()}), None),
        ([[{"a": b"72"}]], pa.list_(pa.struct({"a": pa.binary()})), [[{"a": "72"}]]),
        ([b"72", None], pa.binary(), ["72", None]),
        ([b"72"], pa.large_binary(), ["72"]),
        ([b"72"], pa.binary(2), ["72"]),
        ([b"72"], pa.binary_view(), ["72"]),
        (["\u00e9".encode()], pa.binary(), ["\u00e9"]),
        ([b"\xff"], pa.binary(), ["\udcff"]),
        ([{"k": b"v"}], pa.map_(pa.string(), pa.binary()), [{"k": "v"}]),
        ([2**53 + 1], pa.int64(), [2**53 + 1]),
    ],
)
def test_a_column_gives_what_was_stored(values: list[Any], kind: Any, stored: Any) -> None:
    column = pa.array(values, kind).to_pylist(maps_as_pydicts="lossy")
    decode = decoder_of(kind) or (lambda value: value)
    assert [decode(value) for value in column] == (values if stored is None else stored)


def test_categories_are_read_by_their_values() -> None:
    column = pa.array([0.1, 0.1], pa.float32()).dictionary_encode()
    decode = decoder_of(column.type)
    assert decode is not None
    assert [decode(value) for value in column.to_pylist()] == [0.1, 0.1]


@pytest.mark.parametrize("value", [0.1, 1e-5, Decimal("18.70"), 1e22, 2**60 + 1])
def test_a_reference_that_was_a_number_is_right_for_the_check(value: Any) -> None:
    reference = text_of(value)
    assert reference is not None
    with Verifier() as verifier:
        assert verifier.check([(f"#### {reference}", reference)]) == [CORRECT]


@given(st.text(), st.sampled_from(NOT_SEEN), st.sampled_from(NOT_SEEN))
def test_what_nobody_sees_at_the_ends_makes_no_other_prompt(
    text: str, before: str, after: str
) -> None:
    key = text_key(text)
    assert text_key(key) == key
    assert text_key(f"{before}{text}{after}") == key
    assert text_key(unicodedata.normalize("NFD", text)) == key


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("two\nlines", "two\r\nlines"),
        ("two\nlines", "two\rlines"),
        ("1\u00a0000 m", "1 000 m"),
        ("Caf\u00e9?", "Cafe\u0301?"),
        ("a\u200bb", "ab"),
        ("Hi\x00", "Hi"),
    ],
)
def test_prompts_that_read_the_same_are_the_same(text: str, twin: str) -> None:
    assert text_key(text) == text_key(twin)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("x\u00b2", "x2"),
        ("if x:\n  y", "if x:\ny"),
        ("Hi", "hi"),
        ("a  b", "a b"),
        ("1\u20442", "12"),
    ],
)
def test_prompts_that_read_otherwise_are_others(text: str, other: str) -> None:
    assert text_key(text) != text_key(other)
