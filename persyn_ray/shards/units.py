"""Unit of work (some rows of a shard for an engine) and its progress, as executors pass them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NotRequired, Protocol, TypedDict

import pyarrow as pa


class Unit(TypedDict):
    """Rows of one shard of PROMPTS that are worked on together."""

    shard: str
    rows: NotRequired[list[int]]
    """Their places in the shard; all of them by default."""
    student: NotRequired[str]
    """Who answers, in step evaluate."""


@dataclass(frozen=True)
class Progress:
    """What one unit did, for the progress line and the record."""

    rows: int = 0
    tokens: int = 0
    errors: int = 0
    unavailable: int = 0
    """Errors that another run may not meet: a teacher that could not be reached."""
    over_budget: int = 0
    """Errors of a judge whose budget is used up."""
    engine_seconds: float = 0.0
    """Seconds in which anything ran in the engine, see `engines.base.Occupancy`; and in sum:"""
    running_seconds: float = 0.0
    kv_seconds: float = 0.0
    most_running: int = 0
    cut: int = 0
    """Responses that their token limit or a loop ended."""

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.errors + other.errors,
            self.unavailable + other.unavailable,
            self.over_budget + other.over_budget,
            self.engine_seconds + other.engine_seconds,
            self.running_seconds + other.running_seconds,
            self.kv_seconds + other.kv_seconds,
            max(self.most_running, other.most_running),
            self.cut + other.cut,
        )

    def as_row(self) -> dict[str, float]:
        return asdict(self)


class Work(Protocol):
    """Carries out units; its constructor may be expensive, and runs where the work runs."""

    def __call__(self, unit: Unit) -> Progress: ...


def units_of(shards: Sequence[str]) -> list[Unit]:
    """One unit per shard, with all its rows."""
    return [Unit(shard=shard) for shard in shards]


def batches_of(rows: Mapping[str, Sequence[int]], size: int) -> Iterator[Unit]:
    """Units of at most `size` rows, from the places of open rows by shard."""
    for shard, places in rows.items():
        for start in range(0, len(places), size):
            yield Unit(shard=shard, rows=[int(p) for p in places[start : start + size]])


def rows_of(unit: Unit, table: pa.Table) -> pa.Table:
    """The rows of a shard's table that a unit is about."""
    return table.take(list(unit["rows"])) if "rows" in unit else table
