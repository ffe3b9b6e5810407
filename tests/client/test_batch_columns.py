"""Prompts out of batches, and routes into them, without an endpoint."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.client.batch_columns import TYPES, prompts_in, with_routes
from persyn_ray.client.protocol import Route
from persyn_ray.errors import DataError


def route(teacher: str, **changes: Any) -> Route:
    fields = {
        "teacher": teacher,
        "runner_up": None,
        "margin": 0.5,
        "scores": {},
        "probabilities": None,
        "is_novel": False,
        "distance": None,
        "fallback": None,
        "router": "r1",
    }
    return Route(**(fields | changes))


def texts(*cells: Any) -> dict[str, Any]:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return {"prompt": column}


@pytest.mark.parametrize("empty", [None, float("nan"), "", "  \n", [], [{"role": "user"}]])
def test_what_says_nothing_is_no_prompt_and_keeps_its_place(empty: Any) -> None:
    assert prompts_in(texts("Hi", empty, "Ho"), "prompt") == ["Hi", None, "Ho"]


def test_fields_that_only_other_rows_have_are_left_out() -> None:
    """Arrow fills structs up with nulls, and an endpoint refuses what it does not know."""
    part = {"type": "text", "text": "Hi", "image_url": None}
    talk = ({"role": "user", "content": np.array([part], dtype=object), "name": None},)
    (found,) = prompts_in(texts(talk), "prompt")
    assert found == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


@pytest.mark.parametrize("cell", [3, b"Hi", {"role": "user"}, ["Hi"], [{"content": "Hi"}]])
def test_what_is_neither_text_nor_conversation_is_named_with_its_column(cell: Any) -> None:
    with pytest.raises(DataError, match=r"Column 'prompt' holds .* Set prompt_column"):
        prompts_in(texts("Hi", cell), "prompt")


def test_a_column_that_is_not_there_or_would_be_written_over_is_refused() -> None:
    with pytest.raises(DataError, match=r"No column 'text' in \['prompt'\]"):
        prompts_in(texts("Hi"), "text")
    batch = texts("Hi") | {"teacher": np.array(["a"]), "router": np.array(["b"])}
    with pytest.raises(DataError, match=r"'teacher', 'router'\] are there already"):
        prompts_in(batch, "prompt")


def test_rows_without_a_route_are_null_in_every_column() -> None:
    added = with_routes(texts("Hi", None), [route("a"), None])
    assert set(added) == {"prompt", *TYPES}
    assert added["teacher"].tolist() == ["a", None]
    assert added["is_novel"].tolist() == [False, None]
    assert added["margin"][0] == 0.5
    assert np.isnan(added["margin"][1])


def test_an_arrow_batch_has_types_even_where_every_route_is_missing() -> None:
    """Blocks of a data set must agree on their schema, whatever their rows hold."""
    batch = pa.table({"prompt": pa.array([None, None], pa.string())})
    assert prompts_in(batch, "prompt") == [None, None]
    added = with_routes(batch, [None, None])
    assert {name: added.schema.field(name).type for name in TYPES} == TYPES
    assert [added[name].null_count for name in TYPES] == [2] * len(TYPES)


def test_the_batch_given_is_not_changed() -> None:
    batch = texts("Hi")
    with_routes(batch, [route("a")])
    assert list(batch) == ["prompt"]
