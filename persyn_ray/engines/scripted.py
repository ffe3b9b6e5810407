"""Engine that answers from a planted world with known truth; for tests and simulation only."""

from collections.abc import Sequence
from typing import ClassVar

from persyn_ray.engines.base import Completion, Request, last_user_text
from persyn_ray.errors import DataError
from persyn_ray.method.planted import specialists
from persyn_ray.recipe.pool import TeacherPool


class ScriptedEngine:
    """One teacher of a planted world; its tokens are words. Prompts with `fail_on` in them fail."""

    overlaps: ClassVar[bool] = False

    def __init__(
        self,
        teacher: str,
        pool: TeacherPool,
        num_tasks: int = 4,
        seed: int = 0,
        fail_on: str | None = None,
    ) -> None:
        pool.index(teacher)
        self._world = specialists(num_tasks, pool.names, seed=seed)
        self._teacher, self._fail_on = teacher, fail_on

    def check(self) -> None:
        """Nothing can be missing."""

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused."""
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """What the planted teacher writes."""
        return [self._answer(last_user_text(request.messages)) for request in requests]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, prompt: str) -> Completion:
        num_words = len(prompt.split())
        if self._fail_on is not None and self._fail_on in prompt:
            return Completion.failed(f"the prompt contains {self._fail_on!r}", num_words)
        try:
            text, _ = self._world.answer(prompt, self._teacher)
        except DataError as error:  # a prompt from outside the world
            return Completion.failed(str(error), num_words)
        return Completion(text, "stop", num_words, len(text.split()))
