"""Unit of work (a shard for an engine) and its progress, as executors pass them around."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

Unit = dict[str, str]


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

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.errors + other.errors,
            self.unavailable + other.unavailable,
            self.over_budget + other.over_budget,
        )

    def as_row(self) -> dict[str, int]:
        return asdict(self)


class Work(Protocol):
    """Carries out units; its constructor may be expensive, and runs where the work runs."""

    def __call__(self, unit: Unit) -> Progress: ...


def units_of(shards: Sequence[str]) -> list[Unit]:
    """One unit per shard."""
    return [{"shard": shard} for shard in shards]
