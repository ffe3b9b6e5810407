"""TeacherPool: the ordered names of the teachers. Positions mean nothing without their pool."""

from collections.abc import Iterator
from dataclasses import dataclass

from persyn_ray.errors import ConfigError, PoolMismatchError


@dataclass(frozen=True)
class TeacherPool:
    """Teacher names in the order that every array axis M follows."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("The pool has no teachers: name at least one under `teachers:`.")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise ConfigError(f"Teacher names must differ; given more than once: {doubled}.")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def index(self, name: str) -> int:
        """Position of a teacher; raises PoolMismatchError for a name outside the pool."""
        if name not in self.names:
            raise PoolMismatchError(f"{name!r} is no teacher of this pool; it holds {self.names}.")
        return self.names.index(name)

    def require(self, names: tuple[str, ...], what: str) -> None:
        """Refuse `what` when it was made for another pool.

        Raises:
            PoolMismatchError: names or their order differ.
        """
        if tuple(names) != self.names:
            raise PoolMismatchError(
                f"{what} was made for the teachers {tuple(names)} but the run names {self.names}: "
                "fit it again or restore the pool under `teachers:`."
            )
