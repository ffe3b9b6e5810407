"""Collects teachers' responses to rows of a shard: each generated once, and durable as it comes."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.engines.base import StreamingEngine
from persyn_ray.method.allocation import draws
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import FAILED
from persyn_ray.shards.part_writer import PartWriter
from persyn_ray.shards.response_store import Store
from persyn_ray.shards.tables import LastTables, shards_of
from persyn_ray.shards.units import Progress, Unit, rows_of
from persyn_ray.stages.generate import Generate, Row
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import DEAD_LETTERS, RESPONSES

SPACE, SPACE_PER_RESPONSE = 64 * 1024, 2048
"""Bytes that a disk must have left before a teacher is asked."""


CUT = ("length", "loop")
"""Finish reasons of responses that did not end by themselves."""


class Collect:
    """Teachers answer what is still unanswered of some rows; each response is filed as it comes.

    May be called from several threads at once: engines that stream get the rows of all calls, so
    that none waits for the longest response of another.

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
        self.writers: dict[str, tuple[PartWriter, PartWriter]] = {}
        self.lock = threading.Lock()
        self.read_shard = LastTables(self.run.prompts.read_table)
        self.read_assigned = LastTables(lambda shard: assigned(self.run, shard, methods or ()))

    def __call__(self, unit: Unit) -> Progress:
        prompts = rows_of(unit, self.read_shard(unit["shard"]))
        new = pa.concat_tables([self._answer(t, unit["shard"], prompts) for t in self.teachers])
        failed = selection.among(new, "finish_reason", FAILED)
        unavailable = selection.where(new, "finish_reason", "unavailable").num_rows
        tokens = selection.total(new, "num_tokens")
        cut = selection.among(new, "finish_reason", CUT).num_rows
        done = Progress(new.num_rows, tokens, failed.num_rows, unavailable, cut=cut)
        return sum((self._occupancy(teacher) for teacher in self.teachers), done)

    def close(self) -> None:
        """End all engines."""
        for stage in self.stages.values():
            stage.close()

    def _answer(self, teacher: TeacherConfig, shard: str, prompts: pa.Table) -> pa.Table:
        """New responses of one teacher; durable but for those that were unavailable."""
        store = self.stores[teacher.name]
        todo = store.unanswered(shard, self._wanted(teacher, shard, prompts))
        if not todo.num_rows:
            return RESPONSES.empty_table()
        # What cannot be filed must not be paid for.
        store.folder.require_space(SPACE + todo.num_rows * SPACE_PER_RESPONSE)
        stage, responses, notes = self._parts_of(teacher)

        def deliver(row: Row) -> None:
            if row["finish_reason"] == "unavailable":
                notes.put(shard, dead_letter(self._step, row))
            else:
                responses.put(shard, row)

        try:
            with nullcontext() if stage.engine.overlaps else self.lock:
                return stage(todo, deliver)
        finally:
            responses.flush()
            notes.flush()

    def _occupancy(self, teacher: TeacherConfig) -> Progress:
        """How full a teacher's engine was since this was last asked."""
        stage = self.stages.get(teacher.name)
        if stage is None or not isinstance(stage.engine, StreamingEngine):
            return Progress()
        use = stage.engine.take_occupancy()
        return Progress(
            engine_seconds=use.seconds,
            running_seconds=use.running_seconds,
            kv_seconds=use.kv_seconds,
            most_running=use.most_running,
        )

    def _parts_of(self, teacher: TeacherConfig) -> tuple[Generate, PartWriter, PartWriter]:
        """A teacher's stage, and the writers of its responses and of what it was not reached for.

        What is not filed as a response is a dead letter that no stored response tells of.
        """
        with self.lock:
            if teacher.name not in self.stages:
                self.stages[teacher.name] = Generate(
                    teacher,
                    self.recipe.pool,
                    self.recipe.responses,
                    self.placement,
                    self.run.spending_of(teacher),
                )
                self.writers[teacher.name] = (
                    PartWriter(self.stores[teacher.name].folder, RESPONSES),
                    PartWriter(self.run.unavailable(self._step, teacher.name), DEAD_LETTERS),
                )
            return self.stages[teacher.name], *self.writers[teacher.name]

    @property
    def _step(self) -> str:
        return "collect" if self.methods is None else "synthesize"

    def _wanted(self, teacher: TeacherConfig, shard: str, prompts: pa.Table) -> pa.Table:
        if self.methods is None:
            return asked_of(teacher, prompts, self._probe_order)
        mine = selection.where(self.read_assigned(shard), "teacher", teacher.name)
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


def dead_letter(step: str, failed: Row) -> Row:
    """A failed row of RESPONSES as a dead letter."""
    return {
        "step": step,
        "prompt_id": failed["prompt_id"],
        "teacher": failed["teacher"],
        "reason": failed["finish_reason"],
        "detail": failed["error"],
    }


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
