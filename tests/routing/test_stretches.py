"""Stretches of files: exact sizes, columns as they are, and what no column type holds."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.data.files.rows import BadRow
from persyn_ray.data.files.stretches import (
    JSON_TEXT,
    columns_at_start,
    stretches_of,
    table_of,
)


@pytest.mark.parametrize("row_group", [1, 3, 100])
def test_a_parquet_file_comes_in_exact_stretches(tmp_path: Path, row_group: int) -> None:
    whole = pa.table(
        {
            "prompt": [str(number) for number in range(11)],
            "vector": pa.array([[0.5, number] for number in range(11)], pa.list_(pa.float32(), 2)),
        }
    )
    path = tmp_path / "t.parquet"
    pq.write_table(whole, path, row_group_size=row_group)
    found = list(stretches_of(str(path), ["prompt"], 4))
    assert [one.table.num_rows for one in found] == [4, 4, 3]
    assert pa.concat_tables([one.table for one in found]).equals(whole)
    assert [number for one in found for number in one.numbers] == list(range(1, 12))
    assert found[1].rows == [{"prompt": str(number)} for number in range(4, 8)]


def test_rows_of_json_keep_their_values_and_a_damaged_line_its_place(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "a", "n": 1.5}\n\n{broken\n{"prompt": "b", "tags": ["x"]}\n')
    (found,) = stretches_of(str(path), ["prompt"], 10)
    assert found.table.to_pylist() == [
        {"prompt": "a", "n": 1.5, "tags": None},
        {"prompt": None, "n": None, "tags": None},
        {"prompt": "b", "n": None, "tags": ["x"]},
    ]
    assert isinstance(found.rows[1], BadRow)
    assert columns_at_start(str(path)) == ["prompt", "n", "tags"]


def test_a_column_of_several_kinds_is_json_text_that_says_so() -> None:
    values = [1, "one", {"a": [Decimal("2.5")]}, None, "\udcff"]
    table = table_of([{"mixed": value, "plain": 1} for value in values])
    assert table.schema.field("mixed").metadata == JSON_TEXT
    assert table.schema.field("plain").metadata is None
    read = [text and json.loads(text) for text in table["mixed"].to_pylist()]
    assert read == [1, "one", {"a": [2.5]}, None, "\udcff"]


def test_rows_without_any_column_are_still_counted() -> None:
    assert table_of([BadRow("x"), BadRow("y")]).num_rows == 2
