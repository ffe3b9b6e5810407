"""Tables are held to their schemas, and complain by column."""

import pyarrow as pa
import pytest

from persyn_ray.errors import DataError
from persyn_ray.storage.schemas import (
    ASSIGNMENT,
    LEARNABILITY,
    QUALITY,
    conform,
    logits_schema,
    rewards_schema,
)


def table(**columns: list[object]) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_columns_come_in_the_schemas_order_and_types_and_others_are_dropped() -> None:
    loose = table(margin=[1, None], extra=[0, 0], teacher=["a", "b"], prompt_id=["x", "y"])
    held = conform(loose, ASSIGNMENT, "assignment")
    assert held.schema == ASSIGNMENT
    assert held.to_pylist()[0] == {"prompt_id": "x", "teacher": "a", "margin": 1.0}


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match=r"assignment: columns \['teacher', 'margin'\] are missing"):
        conform(table(prompt_id=["x"]), ASSIGNMENT, "assignment")


def test_a_column_of_another_type_is_refused() -> None:
    wrong = table(prompt_id=["x"], teacher=["a"], quality=["good"], outcome=["scored"])
    with pytest.raises(DataError, match="quality of shard 3"):
        conform(wrong, QUALITY, "quality of shard 3")


def test_nulls_are_refused_where_none_are_allowed() -> None:
    wrong = table(prompt_id=[None, "x"], teacher=["a", "b"], learnability=[-1.0, None])
    wrong = wrong.append_column("num_tokens", pa.array([1, 2]))
    with pytest.raises(DataError, match="prompt_id"):
        conform(wrong, LEARNABILITY, "learnability")


def test_numbers_that_do_not_fit_are_refused() -> None:
    wrong = table(prompt_id=["x"], teacher=["a"], learnability=[-1.0], num_tokens=[2**40])
    with pytest.raises(DataError):
        conform(wrong, LEARNABILITY, "learnability")


def test_an_empty_table_conforms() -> None:
    assert conform(ASSIGNMENT.empty_table(), ASSIGNMENT, "assignment").num_rows == 0


def test_the_pool_travels_in_the_metadata_and_its_width_is_held() -> None:
    pair, other = rewards_schema(("a", "b")), rewards_schema(("b", "a"))
    assert not pair.equals(other, check_metadata=True)
    narrow = table(prompt_id=["x"], logits=[[1.0]], candidates=[[True]])
    with pytest.raises(DataError):
        conform(narrow, logits_schema(("a", "b")), "logits")
