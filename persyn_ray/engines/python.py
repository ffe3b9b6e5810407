"""Engine of one's own: built by a function that a recipe names, and held to what engines promise.

What it raises for a call of several requests is tried again one by one, so that a request which it
cannot answer is a dead letter and costs no other.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, get_args

from persyn_ray.engines.base import Completion, Engine, FinishReason, Request
from persyn_ray.errors import ConfigError, EngineDead, PersynError, StepError
from persyn_ray.recipe.own_code import PythonEngineConfig, load_code
from persyn_ray.recipe.teachers import TeacherConfig

log = logging.getLogger(__name__)
METHODS = ("check", "refuses", "generate", "close")
ENOUGH = 8
"""Requests that fail before the first answer, after which an engine counts as broken."""


class PythonEngine:
    """One teacher, by an object of the user's; it is built when it is first asked something."""

    overlaps: ClassVar[bool] = False

    def __init__(self, teacher: TeacherConfig, how: PythonEngineConfig) -> None:
        self._teacher, self._how = teacher, how
        self._has_answered = False

    def check(self) -> None:
        """Refuse what cannot be built or does not do what engines do, and what it refuses itself.

        Raises:
            ConfigError: with the teacher's name and the reference.
        """
        try:
            self._engine.check()
        except PersynError:
            raise
        except Exception as error:
            raise ConfigError(f"{self._name}: check failed. {_told(error)}") from error

    def refuses(self, request: Request) -> str | None:
        """Why this request can never be answered, or None."""
        try:
            return self._engine.refuses(request)
        except PersynError:
            raise
        except Exception as error:
            return f"refuses failed. {_told(error)}"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion for each request, in order.

        Raises:
            StepError: it has answered nothing, and failed at several requests.
        """
        try:
            found = self._called(requests)
        except _Failed as failure:
            log.warning("%s failed at %d requests: %s", self._name, len(requests), failure)
            found = [self._one(request) for request in requests]
        self._has_answered = self._has_answered or any(one.text is not None for one in found)
        if not self._has_answered and len(found) >= ENOUGH:
            raise StepError(
                f"{self._name} answered none of {len(found)} requests: {found[0].error}"
            )
        return found

    def close(self) -> None:
        """Close it; it is built anew when it is asked again."""
        engine = self.__dict__.pop("_engine", None)
        if engine is not None:
            engine.close()

    @property
    def _name(self) -> str:
        return f"The engine {self._how.factory!r} of teacher {self._teacher.name!r}"

    @cached_property
    def _engine(self) -> Engine:
        setting = f"engine.factory of teacher {self._teacher.name!r}"
        build = load_code(self._how.factory, self._how.source, setting)
        try:
            engine = build(self._teacher, **self._how.settings)
        except PersynError:
            raise
        except Exception as error:
            raise ConfigError(f"{self._name} could not be built. {_told(error)}") from error
        lacking = [name for name in METHODS if not callable(getattr(engine, name, None))]
        if lacking:
            raise ConfigError(
                f"{self._name} is a {type(engine).__name__}, which lacks {lacking}: an engine has "
                f"the methods {list(METHODS)} (persyn_ray.Engine)."
            )
        return engine

    def _one(self, request: Request) -> Completion:
        try:
            return self._called([request])[0]
        except _Failed as failure:
            return Completion.failed(str(failure))

    def _called(self, requests: Sequence[Request]) -> list[Completion]:
        try:
            found: Any = self._engine.generate(requests)
        except (EngineDead, ConfigError):
            raise
        except Exception as error:
            raise _Failed(_told(error)) from error
        if not isinstance(found, list | tuple) or len(found) != len(requests):
            number = f"{len(found)} values" if isinstance(found, list | tuple) else repr(found)[:80]
            raise _Failed(f"generate returned {number} for {len(requests)} requests")
        return [_checked(one) for one in found]


class _Failed(Exception):
    """A call gave nothing, and why."""


def _checked(found: Any) -> Completion:
    if not isinstance(found, Completion):
        return Completion.failed(f"generate returned {found!r:.100}, which is no Completion")
    if found.finish_reason not in get_args(FinishReason):
        return Completion.failed(f"finish_reason {found.finish_reason!r:.40} is unknown")
    has_text = found.finish_reason in ("stop", "length", "loop")
    if has_text != isinstance(found.text, str):
        return Completion.failed(
            f"finish_reason {found.finish_reason} with text {found.text!r:.80}"
        )
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
