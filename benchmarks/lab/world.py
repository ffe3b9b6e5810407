"""The lab as an experiment sees it: seeds, methods, routers and students, each result kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.bank import Bank, in_processes
from lab.students import RouterFit, Tuning, embeddings, fitted_logits, tuned
from persyn_ray.pipeline.assign.methods import (
    Choices,
    Parallel,
    means,
    method_teachers,
    settings_of,
)
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe, load_recipe

Floats = NDArray[np.float64]
Teachers = NDArray[np.int64]


@dataclass(frozen=True)
class Lab:
    """Blocks of prompts, one a seed, of which the first are the parallel set; held-out problems."""

    cache: Path
    recipe_path: Path
    overrides: tuple[str, ...]
    bank: Bank
    heldout: Bank
    num_seeds: int
    block: int
    num_parallel: int
    first: int = 0
    """What the recipe's seeds begin with."""
    until: float | None = None
    """When (`time.monotonic`) students are to stop being tuned."""

    def recipe(self, seed: int, *more: str) -> Recipe:
        """The recipe with all its seeds set to one."""
        sections = ("prompts", "router", "finetune")
        seeds = tuple(f"{section}.seed={self.first + seed}" for section in sections)
        return load_recipe(self.recipe_path, (*self.overrides, *seeds, *more))

    def rows(self, seed: int) -> range:
        """Places of a seed's block in the bank."""
        return range(seed * self.block, (seed + 1) * self.block)

    def parallel_rows(self, seed: int) -> range:
        """Places of a seed's parallel set."""
        return self.rows(seed)[: self.num_parallel]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Prompts as plain text."""
        return _texts(self.bank)

    @cached_property
    def heldout_texts(self) -> tuple[str, ...]:
        """Held-out problems as plain text."""
        return _texts(self.heldout)

    @cached_property
    def tasks(self) -> tuple[str | None, ...]:
        """Families of all prompts in the bank."""
        return tuple(self.bank.prompts["task"].to_pylist())

    @cached_property
    def embeddings_PD(self) -> Floats:
        """Of every prompt in the bank, by the router's backbone before fitting."""
        path = self.cache / f"embeddings-{len(self.texts)}.npy"
        if not path.exists():
            np.save(path, in_processes(embeddings, [(self.recipe(0), self.texts)])[0])
        return np.load(path)

    def router(
        self,
        recipe: Recipe,
        rows: Sequence[int],
        asked: Sequence[int],
        quality_PM: Floats | None = None,
    ) -> RouterFit:
        """A router on some prompts' preferences; its logits are for `asked`, then held-out ones."""
        signals = self.bank.rewards(recipe, rows, quality_PM)
        texts = tuple(self.texts[row] for row in rows)
        wanted = tuple(self.texts[row] for row in asked) + self.heldout_texts
        return RouterFit(recipe, texts, signals.prompt_ids, signals.rewards_PM, wanted)

    def logits(self, fits: Sequence[RouterFit]) -> list[Floats]:
        """Logits of routers, those not yet there fitted side by side."""
        open_fits = list(
            {fit.key: fit for fit in fits if not self._has("routers", fit.key, "npy")}.values()
        )
        in_processes(fitted_logits, [(self.cache, fit) for fit in open_fits])
        return [fitted_logits(self.cache, fit) for fit in fits]

    def parallel(self, recipe: Recipe, seed: int, quality_PM: Floats | None = None) -> Parallel:
        """What every method may learn from in a seed."""
        rows = self.parallel_rows(seed)
        signals = self.bank.rewards(recipe, rows, quality_PM)
        losses_M = -means(self.bank.signals["log_likelihood"][np.asarray(rows)])
        tasks = tuple(self.tasks[row] for row in rows)
        return Parallel(signals, losses_M, self.embeddings_PD[np.asarray(rows)], tasks)

    def choose(self, method: str, recipe: Recipe, seed: int, logits_PM: Floats) -> Teachers:
        """A method's teachers for a seed's block."""
        rows = self.rows(seed)
        signals = self.bank.rewards(recipe, rows)
        choices = Choices(
            signals.prompt_ids,
            logits_PM[: self.block],
            np.ones((self.block, len(recipe.pool)), dtype=bool),
            signals,
            self.embeddings_PD[np.asarray(rows)],
            tasks=tuple(self.tasks[row] for row in rows),
        )
        settings, parallel = settings_of(recipe), self.parallel(recipe, seed)
        return method_teachers(method, settings, choices, parallel)[0]

    def tuning(
        self, seed: int, teacher_P: Teachers, student: StudentConfig | None = None
    ) -> Tuning:
        """A student on a seed's block, each prompt with the response of its teacher."""
        recipe = self.recipe(seed)
        rows = self.rows(seed)
        triples = tuple(
            (self.bank.ids[row], self.texts[row], self.bank.texts[teacher][row])
            for row, teacher in zip(rows, teacher_P, strict=True)
        )
        return Tuning(student or recipe.student, recipe.finetune, triples)

    def students(self, tunings: Sequence[Tuning]) -> Floats:
        """Correct answers of tuned students, (N, problems), those not yet there side by side.

        Raises:
            OutOfTime: some are left when the lab's time is over.
        """
        missing = {t.key: t for t in tunings if not self.is_tuned(t)}
        jobs = [(self.cache, t, self.recipe(0), self.heldout.prompts) for t in missing.values()]
        in_processes(tuned, jobs, self.until)
        return np.array([_marks(tuned(*self._job(t))["correct"]) for t in tunings])

    def is_tuned(self, tuning: Tuning) -> bool:
        """Whether a student's answers are there."""
        return self._has("students", tuning.key, "json")

    def _job(self, tuning: Tuning) -> tuple[Any, ...]:
        return self.cache, tuning, self.recipe(0), self.heldout.prompts

    def _has(self, kind: str, key: str, ending: str) -> bool:
        return (self.cache / kind / f"{key}.{ending}").exists()


def _marks(correct: str) -> list[float]:
    return [float(mark) for mark in correct]


def _texts(bank: Bank) -> tuple[str, ...]:
    return tuple(messages[0]["content"] for messages in bank.prompts["messages"].to_pylist())
