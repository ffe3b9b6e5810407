"""Dead letters of a run: its tables as they stand in, counts by reason with an example out."""

from typing import TypedDict

import numpy as np
import pyarrow as pa

from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.dead_letters import all_letters
from persyn_ray.storage.layout import parts_of
from persyn_ray.view.snapshot import Snapshot


class Example(TypedDict):
    """The first dead letter of a reason."""

    prompt_id: str | None
    teacher: str | None
    detail: str | None


class Reason(TypedDict):
    """Dead letters of one step for one reason."""

    step: str
    reason: str
    count: int
    teachers: dict[str, int]
    example: Example


class DeadLetterCounts(TypedDict):
    """Everything that view Dead letters shows."""

    total: int
    reasons: list[Reason]


def dead_letters_of(seen: Snapshot) -> DeadLetterCounts:
    """Count the dead letters of every step, the most frequent reason first."""
    found: dict[tuple[str, str], Reason] = {}
    parts = parts_of(seen.recipe.scoring)
    for table in all_letters(response_settings(seen.recipe), parts, seen.run):
        for row in _counted(table).to_pylist():
            key = (row["step"], row["reason"])
            if key not in found:
                found[key] = Reason(
                    step=row["step"],
                    reason=row["reason"],
                    count=0,
                    teachers={},
                    example=_example(table, row["first"]),
                )
            one, teacher = found[key], row["teacher"]
            one["count"] += row["count"]
            if teacher is not None:
                one["teachers"][teacher] = one["teachers"].get(teacher, 0) + row["count"]
    reasons = sorted(found.values(), key=lambda one: -one["count"])
    return DeadLetterCounts(total=sum(one["count"] for one in reasons), reasons=reasons)


def _counted(table: pa.Table) -> pa.Table:
    """How many rows each step, reason and teacher has, and the place of the first of them."""
    keys = table.select(["step", "reason", "teacher"])
    keys = keys.append_column("place", pa.array(np.arange(len(keys))))
    groups = keys.group_by(["step", "reason", "teacher"])
    counted = groups.aggregate([("place", "min"), ("place", "count")])
    renamed = {"place_min": "first", "place_count": "count"}
    return counted.rename_columns(renamed).sort_by("first")


def _example(table: pa.Table, place: int) -> Example:
    (row,) = table.slice(place, 1).select(list(Example.__annotations__)).to_pylist()
    return Example(**row)
