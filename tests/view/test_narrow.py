"""Columns as arrays say the same as plain Python over their rows."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.view.narrow import (
    Codes,
    agreement_of_signals,
    last_contents,
    matrix_of,
    positions,
    sort_keys,
)

labels = st.lists(st.none() | st.sampled_from(["math", "code", "", "tâche"]), max_size=12)
values = st.none() | st.floats(-10, 10)
turns = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=30)}), max_size=3
)
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def chunked(rows: list[str | None]) -> pa.ChunkedArray:
    half = len(rows) // 2
    return pa.chunked_array([rows[:half], rows[half:]], pa.string())


@given(labels, labels)
def test_codes_mean_the_same_label_in_every_table(first: list, second: list) -> None:
    codes = Codes()
    numbers = [*codes.of(chunked(first)).tolist(), *codes.of(chunked(second)).tolist()]
    assert len(codes.labels) == len(set(codes.labels))
    assert [None if n < 0 else codes.labels[n] for n in numbers] == first + second


@given(labels, st.lists(st.sampled_from(["math", "code", "other"]), unique=True))
def test_positions_are_where_a_value_stands(rows: list, among: list[str]) -> None:
    found = positions(chunked(rows), pa.array(among, pa.string()))
    assert found.tolist() == [among.index(row) if row in among else -1 for row in rows]


@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=6))
def test_a_column_of_lists_is_a_matrix_with_gaps(rows: list[list[float | None]]) -> None:
    table = pa.table({"rewards": pa.array(rows, pa.list_(pa.float64()))})
    wanted = [[np.nan if value is None else value for value in row] for row in rows]
    np.testing.assert_array_equal(matrix_of(table, "rewards", 3), wanted)


def of_row(
    rewards: list[float | None], quality: list[float | None], learnability: list[float | None]
) -> tuple[float, float, bool, bool]:
    """Best, spread, all wrong and disagreement of one prompt, teacher by teacher."""
    known = [one for one in rewards if one is not None]
    graded = [one for one in quality if one is not None]
    both = [
        (q, like)
        for q, like in zip(quality, learnability, strict=True)
        if q is not None and like is not None
    ]
    disagrees = False
    if both:
        likeliest = max(like for _, like in both)
        first = next(q for q, like in both if like == likeliest)
        disagrees = first < max(q for q, _ in both)
    best = max(known) if known else np.nan
    return (
        best,
        best - min(known) if known else np.nan,
        bool(graded) and max(graded) <= 0,
        disagrees,
    )


signals = st.lists(st.tuples(values, values, values), min_size=1, max_size=4)


@given(signals)
def test_signals_of_a_prompt_are_those_of_its_known_values(of_teachers: list) -> None:
    columns = [list(column) for column in zip(*of_teachers, strict=True)]
    arrays = [
        np.array([[np.nan if v is None else v for v in column]], np.float64) for column in columns
    ]
    found = agreement_of_signals(*arrays)
    best, spread, all_wrong, disagrees = of_row(*columns)
    np.testing.assert_allclose(found.best_P, [best])
    np.testing.assert_allclose(found.spread_P, [spread])
    assert found.all_wrong_P.tolist() == [all_wrong]
    assert found.disagrees_P.tolist() == [disagrees]


@given(st.lists(st.none() | turns, min_size=1, max_size=5))
def test_the_last_message_is_found_in_conversations_of_any_length(rows: list) -> None:
    found = last_contents(pa.array(rows, MESSAGES)).to_pylist()
    assert found == [row[-1]["content"] if row else "" for row in rows]


def test_prompts_are_ordered_by_the_beginning_of_what_was_asked() -> None:
    def asked(text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "zzz"}, {"role": "user", "content": text}]

    texts = ["Banana", "apple", "Äpfel", "apple" + "x" * 40]
    keys = sort_keys(pa.array([asked(text) for text in texts], MESSAGES))
    assert [texts[n] for n in np.argsort(keys, kind="stable")][:3] == ["apple", texts[3], "Banana"]
