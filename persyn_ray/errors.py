"""Exceptions of the library that a caller may want to tell apart.

PersynError
 ├── ConfigError (ValueError)         the recipe or the command line asks for something impossible
 ├── DataError (ValueError)           a table or a file lacks what it must have
 │    └── DamagedError                a file of ours is no whole table: half written, or overwritten
 ├── PoolMismatchError (ValueError)   something was made for another ordered set of teachers
 ├── DriftError (RuntimeError)        a finished step was made with other settings
 ├── StepError (RuntimeError)         a step could not be carried out
 ├── AttemptError (RuntimeError)      another process works on the run
 ├── EngineDead (RuntimeError)        a teacher's engine has died; its process must be replaced
 └── RouterError                      the router's endpoint gives no answer (persyn_ray.client.http)

All are picklable, because workers raise them across processes. A message says what is wrong, with
which value, what would be right, and which setting changes it. Keys, passwords and signatures that
a server, a library or an address has brought into it are cut out when it is made.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from persyn_ray.credentials import cut_secrets


class PersynError(Exception):
    """Anything this package raises on purpose."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(cut_secrets(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(PersynError, ValueError):
    """The recipe or the command line asks for something impossible."""


class DataError(PersynError, ValueError):
    """A table or a file lacks what it must have."""


class DamagedError(DataError):
    """A file of ours cannot be read as what it is: it was written half, or overwritten."""


class PoolMismatchError(PersynError, ValueError):
    """Something was made for another ordered set of teachers."""


class DriftError(PersynError, RuntimeError):
    """A finished step was made with settings other than the recipe's."""


class StepError(PersynError, RuntimeError):
    """A step could not be carried out."""


class AttemptError(PersynError, RuntimeError):
    """Another process works on the run."""


class EngineDead(PersynError, RuntimeError):
    """What writes for a teacher has died; the process that holds it must be replaced."""


@contextmanager
def advising(advice: str, kind: type[ConfigError] | type[DataError]) -> Generator[None]:
    """Add to an error of this kind which setting to change: formulas know none, callers do."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{error} {advice}") from error
