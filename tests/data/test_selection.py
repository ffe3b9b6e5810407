"""Rows chosen by what a column holds: nulls, other types and empty tables included."""

import pyarrow as pa
import pytest

from persyn_ray.data.selection import among, seeded_draw, total, where, without


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"name": ["a", "b", None, "a"], "num": [1, None, 3, 4]})


def numbers(table: pa.Table) -> list[int | None]:
    return table["num"].to_pylist()


def test_rows_keep_their_order_and_come_as_often_as_they_stand_there(table: pa.Table) -> None:
    assert numbers(where(table, "name", "a")) == [1, 4]
    assert numbers(among(table, "name", ["a", "b"])) == [1, None, 4]


@pytest.mark.parametrize("names", [[], ["a"], ["b", "zz"], ["a", "b", None]])
def test_every_row_is_either_among_some_values_or_without_them(
    table: pa.Table, names: list[str | None]
) -> None:
    inside, outside = among(table, "name", names), without(table, "name", names)
    assert inside.num_rows + outside.num_rows == table.num_rows
    assert set(outside["name"].to_pylist()) == {"a", "b", None} - set(names)


def test_a_null_is_no_value(table: pa.Table) -> None:
    assert numbers(where(table, "name", "b")) == [None]
    assert numbers(without(table, "name", ["a", "b"])) == [3]


def test_values_of_another_width_are_the_same_values(table: pa.Table) -> None:
    wide = pa.chunked_array([pa.array(["a"], pa.large_string()), pa.array([], pa.large_string())])
    assert numbers(among(table, "name", wide)) == [1, 4]
    assert numbers(among(table, "num", pa.array([3], pa.int8()))) == [3]


def test_sums_leave_nulls_out_and_nothing_sums_to_zero(table: pa.Table) -> None:
    assert total(table, "num") == 8
    assert total(table.slice(0, 0), "num") == 0
    assert total(table.slice(1, 1), "num") == 0


def test_draws_hang_on_seed_and_key_alone_and_are_spread_evenly() -> None:
    draws = [seeded_draw(0, f"p{number}") for number in range(2000)]
    assert draws == [seeded_draw(0, f"p{number}") for number in range(2000)]
    assert len(set(draws)) == 2000
    assert abs(sum(draw < 2**63 for draw in draws) - 1000) < 100  # 4.5 standard deviations
    other = [seeded_draw(1, f"p{number}") for number in range(2000)]
    assert not set(draws) & set(other)
