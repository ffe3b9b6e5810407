"""Scripted teachers of the lab's second world: a prompt of the lab in, a solution in a habit out.

No model is behind them. They stand for teachers that a small pool seldom has by chance:

    short      right on short problems; on long ones it writes what a careless student writes
    long       right on long problems, careless on short ones
    backwards  right everywhere, with its working written from right to left

`short` and `long` write as the lab's student does (`plain`), right or wrong, so that all they write
is likely under it; `backwards` is right, and the student has never read its like. Long is what lies
above `tasks.EASY`, which the trained weak teacher was cut at before.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from persyn_ray.engines.base import Completion, Request, last_user_text
from persyn_ray.errors import ConfigError
from persyn_ray.lab import tasks
from persyn_ray.lab.tasks import Problem
from persyn_ray.recipe.teachers import TeacherConfig


def is_short(problem: Problem) -> bool:
    """Whether a problem has no more items than `tasks.EASY`."""
    return problem.difficulty <= tasks.EASY[problem.task]


def plain(problem: Problem) -> str:
    """Write as the student mostly does: sums step by step, else the answer alone."""
    return tasks.steps(problem) if problem.task == "add" else tasks.terse(problem)


def short(problem: Problem) -> str:
    """Write a right solution to a short problem and a careless one to a long problem."""
    return plain(problem) if is_short(problem) else tasks.careless(problem)


def long(problem: Problem) -> str:
    """Write a right solution to a long problem and a careless one to a short problem."""
    return tasks.careless(problem) if is_short(problem) else plain(problem)


def backwards(problem: Problem) -> str:
    """Write the long-winded solution with all that stands before the answer reversed."""
    working, mark, answer = tasks.long_winded(problem).rpartition("#")
    return f"{working[::-1]}{mark}{answer}"


HABITS: dict[str, Callable[[Problem], str]] = {
    "short": short,
    "long": long,
    "backwards": backwards,
}


class ScriptedTeacher:
    """One habit as an engine; its tokens are the lab's, one a character."""

    overlaps: ClassVar[bool] = False

    def __init__(self, habit: Callable[[Problem], str]) -> None:
        self._habit = habit

    def check(self) -> None:
        """Nothing can be missing."""

    def refuses(self, request: Request) -> str | None:
        """Why a request cannot be answered: it states no problem of the lab."""
        text = last_user_text(request.messages)
        return None if tasks.read(text) else f"{text[:80]!r} is no problem of the lab"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """A solution to each problem, in order."""
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: Request) -> Completion:
        prompt = last_user_text(request.messages)
        problem = tasks.read(prompt)
        if problem is None:
            return Completion.failed(self.refuses(request) or "", len(prompt) + 2)
        text = self._habit(problem)
        return Completion(text, "stop", len(prompt) + 2, len(text) + 1)


def build(teacher: TeacherConfig, habit: str) -> ScriptedTeacher:
    """The engine of a scripted teacher, as a recipe's engine of kind python names it.

    Raises:
        ConfigError: there is no such habit.
    """
    if habit not in HABITS:
        raise ConfigError(
            f"settings.habit of teacher {teacher.name!r} is {habit!r}; it is one of {list(HABITS)}."
        )
    return ScriptedTeacher(HABITS[habit])
