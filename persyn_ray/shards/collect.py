"""Collects a teacher's responses to a shard, each generated once and written to the run folder."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.method.allocation import draws
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import FAILED, Store
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress, Unit
from persyn_ray.stages.generate import Generate
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import DEAD_LETTERS, RESPONSES

SPACE, SPACE_PER_RESPONSE = 64 * 1024, 2048
"""Bytes that a disk must have left before a teacher is asked."""


class Collect:
    """Teachers answer what is still unanswered of a shard.

    May be called from several threads at once where all its teachers' engines overlap.

    Args:
        methods: None asks every teacher for every prompt (see `asked_of`); otherwise a teacher
            answers the prompts that any of these methods assigned to it.
        teachers: names of those who answer here; all of them by default.
        placement: placement group for the workers of a large teacher's engine.
    """

    def __init__(
        self,
        recipe: Recipe,
        methods: tuple[str, ...] | None = None,
        teachers: tuple[str, ...] | None = None,
        placement: Any = None,
    ) -> None:
        self.recipe, self.methods, self.run = recipe, methods, run_of(recipe)
        names = recipe.pool.names if teachers is None else teachers
        self.teachers = [teacher for teacher in recipe.teachers if teacher.name in names]
        self.placement = placement
        self.stores = {teacher.name: Store(self.run, teacher) for teacher in self.teachers}
        self.stages: dict[str, Generate] = {}
        self.lock = threading.Lock()

    def __call__(self, unit: Unit) -> Progress:
        shard = unit["shard"]
        prompts = self.run.prompts.read_table(shard)
        new = pa.concat_tables([self._answer(t, shard, prompts) for t in self.teachers])
        failed = selection.among(new, "finish_reason", FAILED)
        unavailable = selection.where(new, "finish_reason", "unavailable").num_rows
        tokens = selection.total(new, "num_tokens")
        return Progress(new.num_rows, tokens, failed.num_rows, unavailable)

    def close(self) -> None:
        """End all engines."""
        for stage in self.stages.values():
            stage.close()

    def _answer(self, teacher: TeacherConfig, shard: str, prompts: pa.Table) -> pa.Table:
        """New responses of one teacher, filed; those that were unavailable are not filed."""
        store = self.stores[teacher.name]
        wanted = self._wanted(teacher, shard, prompts)
        answered = store.responses(shard, wanted)
        todo = selection.without(wanted, "prompt_id", answered["prompt_id"])
        if todo.num_rows:  # what cannot be filed must not be paid for
            store.folder.require_space(SPACE + todo.num_rows * SPACE_PER_RESPONSE)
        new = self._asked(teacher, todo) if todo.num_rows else RESPONSES.empty_table()
        lasting = selection.without(new, "finish_reason", ["unavailable"])
        if lasting.num_rows:
            store.add(shard, lasting)
        self._note(teacher, shard, selection.where(new, "finish_reason", "unavailable"))
        return new

    def _asked(self, teacher: TeacherConfig, prompts: pa.Table) -> pa.Table:
        stage = self._stage(teacher)
        with nullcontext() if stage.engine.overlaps else self.lock:
            return stage(prompts)

    def _stage(self, teacher: TeacherConfig) -> Generate:
        with self.lock:
            if teacher.name not in self.stages:
                self.stages[teacher.name] = Generate(
                    teacher,
                    self.recipe.pool,
                    self.recipe.responses,
                    self.placement,
                    self.run.spending_of(teacher),
                )
            return self.stages[teacher.name]

    def _note(self, teacher: TeacherConfig, shard: str, unavailable: pa.Table) -> None:
        """What is not filed is a dead letter that no stored response tells of."""
        step = "collect" if self.methods is None else "synthesize"
        folder = self.run.unavailable(step, teacher.name)
        if unavailable.num_rows:
            folder.write_table(shard, dead_letters(step, unavailable))
        else:
            folder.remove(shard)

    def _wanted(self, teacher: TeacherConfig, shard: str, prompts: pa.Table) -> pa.Table:
        if self.methods is None:
            return asked_of(teacher, prompts, self._probe_order)
        mine = selection.where(assigned(self.run, shard, self.methods), "teacher", teacher.name)
        return selection.among(prompts, "prompt_id", mine["prompt_id"])

    @cached_property
    def _probe_order(self) -> list[str]:
        return probe_order(self.run, self.recipe.teachers, self.recipe.prompts.seed)


def asked_of(teacher: TeacherConfig, prompts: pa.Table, order: Sequence[str]) -> pa.Table:
    """What one teacher is asked where all teachers answer: everything, but for a retired one
    nothing, and for one with a probe only so many of the parallel prompts (`order`).
    """
    if teacher.retired:
        return prompts.slice(0, 0)
    if teacher.num_probe is None:
        return prompts
    return selection.without(prompts, "prompt_id", order[teacher.num_probe :])


def probe_order(run: RunLayout, teachers: Sequence[TeacherConfig], seed: int) -> list[str]:
    """Ids of the parallel prompts in the order in which probes take them: by a hash.

    It is the same for all teachers, so that those with a probe meet one another.
    """
    if all(teacher.num_probe is None for teacher in teachers):
        return []
    tables = [run.prompts.read_table(s, ["prompt_id"]) for s in shards_of(run, "parallel")]
    ids = sorted(name for table in tables for name in table["prompt_id"].to_pylist())
    draws_P = draws(ids, [""], seed, "probe")[:, 0]
    return [ids[place] for place in draws_P.argsort(kind="stable")]


def assigned(run: RunLayout, shard: str, methods: Sequence[str]) -> pa.Table:
    """Prompts of a shard and the teachers that any of these methods gives them to."""
    columns = ["prompt_id", "teacher"]
    return pa.concat_tables(
        [run.assignment(method).read_table(shard, columns) for method in methods]
    )


def dead_letters(step: str, failed: pa.Table) -> pa.Table:
    """Failed responses as dead letters."""
    return pa.table(
        {
            "step": pa.array([step] * failed.num_rows),
            "prompt_id": failed["prompt_id"],
            "teacher": failed["teacher"],
            "reason": failed["finish_reason"],
            "detail": failed["error"],
        },
        schema=DEAD_LETTERS,
    )
