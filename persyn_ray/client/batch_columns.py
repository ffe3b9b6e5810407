"""Reads prompts from a Ray Data batch and adds columns of routes.

A batch is a dict of numpy arrays, an Arrow table or a data frame of pandas. A cell holds a text or
a conversation, as these give them: lists, tuples, or object arrays of messages, whose missing
fields are null.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from persyn_ray.client.protocol import Prompt, Route
from persyn_ray.errors import DataError

TYPES = {
    "teacher": pa.string(),
    "margin": pa.float64(),
    "is_novel": pa.bool_(),
    "fallback": pa.string(),
    "router": pa.string(),
}
Batch = Any
"""dict[str, np.ndarray], pa.Table or pandas.DataFrame; pandas is needed by nobody else."""


def prompts_in(batch: Batch, column: str) -> list[Prompt | None]:
    """The prompts, null where there is nothing to route. Raises DataError for a wrong column."""
    present = list(batch.column_names if isinstance(batch, pa.Table) else batch)
    if column not in present:
        raise DataError(f"No column {column!r} in {present}; set prompt_column.")
    taken = [name for name in TYPES if name in present]
    if taken:
        raise DataError(f"The columns {taken} are there already; rename or drop them first.")
    if isinstance(batch, pa.Table):
        cells = batch[column].to_pylist()
    elif isinstance(batch, Mapping):
        cells = batch[column]
    else:  # null has several forms in pandas
        cells = batch[column].astype(object).where(batch[column].notna(), None)
    return [_prompt(cell, column) for cell in cells]


def with_routes(batch: Batch, routes: Sequence[Route | None]) -> Batch:
    """The batch with a column for each of TYPES, null where there is no route."""
    columns = {name: [getattr(route, name, None) for route in routes] for name in TYPES}
    if isinstance(batch, pa.Table):
        for name, values in columns.items():
            batch = batch.append_column(name, pa.array(values, TYPES[name]))
        return batch
    margin = np.array([np.nan if v is None else v for v in columns.pop("margin")], dtype=float)
    others = {name: np.array(values, dtype=object) for name, values in columns.items()}
    added = {"margin": margin, **others}
    return {**batch, **added} if isinstance(batch, Mapping) else batch.assign(**added)


def _prompt(cell: Any, column: str) -> Prompt | None:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, str):
        return str(cell) if cell.strip() else None
    if isinstance(cell, list | tuple | np.ndarray):
        messages = [_message(message, column) for message in cell]
        return messages if any(_has_text(message["content"]) for message in messages) else None
    raise _wrong(cell, column)


def _message(value: Any, column: str) -> dict[str, object]:
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        raise _wrong(value, column)
    content = _plain(value.get("content"))
    if not isinstance(content, str | list | None):
        raise _wrong(content, column)
    return {"role": value["role"], "content": "" if content is None else content}


def _plain(value: Any) -> Any:
    """Lists and dicts all the way down; fields that only other rows have are left out."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return value


def _has_text(content: Any) -> bool:
    if isinstance(content, str):
        return bool(content.strip())
    return any(str(part.get("text", "")).strip() for part in content if isinstance(part, dict))


def _wrong(value: Any, column: str) -> DataError:
    return DataError(
        f"Column {column!r} holds {str(value)[:80]!r} of type {type(value).__name__}; a text or a "
        "list of messages (role, content) would be right. Set prompt_column."
    )
