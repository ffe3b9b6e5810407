"""Rows of some prompts out of tables of many row groups, whole, absent or damaged."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persyn_ray.errors import DamagedError
from persyn_ray.pipeline.results.prompt_rows import find_prompts, row_of, rows_of
from persyn_ray.storage.folder import Folder

NAME = "shard-00000.parquet"


def written(folder: Path, ids: list[str], rows_per_group: int = 2) -> Folder:
    """A table with a row for each id, and its place as a column."""
    table = pa.table({"prompt_id": pa.array(ids, pa.string()), "place": range(len(ids))})
    made = Folder(str(folder))
    made.write_table(NAME, table, rows_per_group)
    return made


ids = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids, st.lists(st.sampled_from("abcxyz"), max_size=4), st.integers(1, 5))
def test_rows_are_those_of_the_prompts_in_the_files_order(
    tmp_path: Path, stored: list[str], wanted: list[str], rows_per_group: int
) -> None:
    folder = written(tmp_path, stored, rows_per_group)
    found = rows_of(folder, NAME, wanted)
    assert found["place"].to_pylist() == [n for n, name in enumerate(stored) if name in wanted]


def test_columns_are_those_asked_for_behind_the_id(tmp_path: Path) -> None:
    folder = written(tmp_path, ["a", "b"])
    assert rows_of(folder, NAME, ["a"], ["place"]).column_names == ["prompt_id", "place"]
    assert rows_of(folder, NAME, ["a"], []).column_names == ["prompt_id"]
    assert rows_of(folder, NAME, ["a"], ["prompt_id"]).column_names == ["prompt_id"]


def test_one_prompts_row_is_empty_where_it_is_not_there(tmp_path: Path) -> None:
    folder = written(tmp_path, ["a", "b"])
    assert row_of(folder, NAME, "b") == {"prompt_id": "b", "place": 1}
    assert row_of(folder, NAME, "c") == {}
    assert row_of(folder, "shard-00001.parquet", "a") == {}


@pytest.mark.parametrize("text", ["", "PAR1", "no table at all"])
def test_a_damaged_file_counts_as_absent_for_one_row_alone(tmp_path: Path, text: str) -> None:
    folder = written(tmp_path, ["a"])
    (tmp_path / NAME).write_text(text)
    assert row_of(folder, NAME, "a") == {}
    with pytest.raises(DamagedError):
        rows_of(folder, NAME, ["a"])


def test_prompts_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    folder = written(tmp_path, ["abc", "abd", "xab", "ABC"])
    assert find_prompts(folder, [NAME], "ab") == [(NAME, "abc"), (NAME, "abd")]
    assert find_prompts(folder, [NAME], "ab.") == []
    assert len(find_prompts(folder, [NAME], "")) == 4
    assert find_prompts(folder, [], "a") == []
