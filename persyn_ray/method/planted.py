"""A planted world: tasks and teachers whose true quality and learnability are known.

Tests and the scripted engine use it: here a router can be held against the truth. A prompt is a
number; its id, its text, its task and every teacher's answer follow from that number and the seed,
so each method takes the number, the id or any text that contains the prompt's. Texts carry words of
their task (that is what a router can learn) and ask for a sum (that is what a checker can verify).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from persyn_ray.errors import ConfigError, DataError, PoolMismatchError
from persyn_ray.method.allocation import draws
from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.method.rewards import Scaling, combine

CUES = (
    ("orchard", "apples", "pears"),
    ("harbour", "ships", "anchors"),
    ("library", "books", "shelves"),
    ("kitchen", "pots", "spoons"),
    ("forest", "oaks", "foxes"),
    ("station", "trains", "tickets"),
    ("garden", "roses", "bees"),
    ("museum", "paintings", "statues"),
)
NUMBER = re.compile(r"(?:planted-|No\. )(\d+)")


class PlantedPrompt(NamedTuple):
    """A prompt with its hidden task."""

    prompt_id: str
    text: str
    task: int


@dataclass(frozen=True, eq=False)
class PlantedWorld:
    """Mean quality and learnability of each teacher on each task, and their spread (`noise`)."""

    num_tasks: int
    teachers: tuple[str, ...]
    quality_KM: Floats  # mean quality; also the chance of a right answer, cut to 0..1
    learnability_KM: Floats  # mean learnability, nats per token
    noise: float
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_tasks <= len(CUES):
            raise ConfigError(
                f"num_tasks is {self.num_tasks}; a planted world has 1 to {len(CUES)}."
            )
        expected = (self.num_tasks, len(self.teachers))
        found = (np.shape(self.quality_KM), np.shape(self.learnability_KM))
        if found != (expected, expected):
            raise ConfigError(
                f"Planted truth must be tasks by teachers, {expected}; found {found}."
            )

    def prompts(self, num_prompts: int) -> list[PlantedPrompt]:
        """The prompts of numbers 0 to num_prompts - 1."""
        return [
            PlantedPrompt(f"planted-{number}", self._text(number), self.task_of(number))
            for number in range(num_prompts)
        ]

    def task_of(self, prompt: int | str) -> int:
        """The hidden task of a prompt, from 0 to K - 1."""
        return int(self._uniform(prompt, "task") * self.num_tasks)

    def signals(self, prompts: Sequence[int | str]) -> tuple[Floats, Floats]:
        """Sampled quality and learnability of every teacher's response, each of shape (P, M)."""
        tasks_P = self._tasks(prompts)
        quality_PM = np.asarray(self.quality_KM)[tasks_P]
        learnability_PM = np.asarray(self.learnability_KM)[tasks_P]
        quality_PM = quality_PM + self.noise * self._normal(prompts, "quality")
        learnability_PM = learnability_PM + self.noise * self._normal(prompts, "learn")
        return quality_PM, np.minimum(learnability_PM, 0.0)

    def correct(self, prompts: Sequence[int | str]) -> Floats:
        """1 where a teacher's answer is right and 0 where it is wrong, shape (P, M)."""
        quality_PM = np.asarray(self.quality_KM)[self._tasks(prompts)]
        return (self._draws(prompts, "right") < quality_PM).astype(np.float64)

    def rewards(
        self, prompts: Sequence[int | str], alpha: float = 0.4, scaling: Scaling = "minmax"
    ) -> Floats:
        """Rewards of the sampled signals, shape (P, M) (Eq. 2)."""
        return combine(*self.signals(prompts), alpha, scaling)

    def right_answer(self, prompt: int | str) -> int:
        """The sum that the prompt asks for."""
        return sum(self._terms(prompt))

    def answer(self, prompt: int | str, teacher: str) -> tuple[str, bool]:
        """What a teacher writes, ending in `#### number`, and whether it is right.

        Teachers differ in verbosity: the n-th by name writes n lines of working first.

        Raises:
            PoolMismatchError: the teacher is none of this world's.
        """
        if teacher not in self.teachers:
            raise PoolMismatchError(
                f"{teacher!r} does not live here; the teachers are {self.teachers}."
            )
        is_right = bool(self.correct([prompt])[0, self.teachers.index(teacher)])
        first, second = self._terms(prompt)
        # A wrong sum is off by 1 to 9, and by another amount for another teacher.
        error = (
            0
            if is_right
            else 1 + int(9 * draws([self._key(prompt)], [teacher], self.seed, "off")[0, 0])
        )
        number = first + second + error
        working = [
            f"Step {step}: we keep {first} and {second} in mind."
            for step in range(1, sorted(self.teachers).index(teacher) + 1)
        ]
        return "\n".join([*working, f"{first} + {second} = {number}", f"#### {number}"]), is_right

    def _text(self, number: int) -> str:
        place, some, others = CUES[self.task_of(number)]
        first, second = self._terms(number)
        return (
            f"No. {number}. In the {place} there are {first} {some} and {second} {others}. "
            "How many are there together?"
        )

    def _terms(self, prompt: int | str) -> tuple[int, int]:
        first, second = (int(2 + 48 * self._uniform(prompt, name)) for name in ("first", "second"))
        return first, second

    def _tasks(self, prompts: Sequence[int | str]) -> Integers:
        return np.array([self.task_of(prompt) for prompt in prompts], dtype=np.int64)

    def _draws(self, prompts: Sequence[int | str], purpose: str) -> Floats:
        return draws([self._key(prompt) for prompt in prompts], self.teachers, self.seed, purpose)

    def _normal(self, prompts: Sequence[int | str], purpose: str) -> Floats:
        """Standard normal numbers of shape (P, M) from two uniform ones (Box-Muller)."""
        radius_PM = np.sqrt(-2 * np.log1p(-self._draws(prompts, f"{purpose}-r")))
        return radius_PM * np.cos(2 * np.pi * self._draws(prompts, f"{purpose}-a"))

    def _uniform(self, prompt: int | str, purpose: str) -> float:
        return float(draws([self._key(prompt)], [""], self.seed, purpose)[0, 0])

    @staticmethod
    def _key(prompt: int | str) -> str:
        if isinstance(prompt, int):
            return str(prompt)
        found = NUMBER.search(prompt)
        if found is None:
            raise DataError(f"No planted prompt: {prompt!r} has neither `planted-N` nor `No. N`.")
        return found.group(1)


def specialists(
    num_tasks: int, teachers: Sequence[str], noise: float = 0.1, seed: int = 0, gain: float = 0.5
) -> PlantedWorld:
    """A world in which teacher m is better by `gain` on the tasks k with k mod M = m.

    The other teachers' mean quality is 0.3 and learnability -1 nat per token, give or take 0.1.
    """
    rng = np.random.default_rng(seed)
    shape = (num_tasks, len(teachers))
    at_home_KM = np.arange(num_tasks)[:, None] % len(teachers) == np.arange(len(teachers))
    quality_KM = 0.3 + gain * at_home_KM + rng.uniform(-0.1, 0.1, shape)
    learnability_KM = -1.0 + rng.uniform(-0.1, 0.1, shape)
    return PlantedWorld(num_tasks, tuple(teachers), quality_KM, learnability_KM, noise, seed)
