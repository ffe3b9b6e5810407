"""Units of work: one shard of one table, read from the run folder, computed by a stage, written
back.

A unit is a small dict (`{"shard": …}`), so a whole step is a list of units that any executor can
run in any order and more than once: what is there already is not done again, and a file appears
only when it is complete. Nothing here knows what runs it. Stages with models are imported where
they are built: planning a run or looking into one needs no torch.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from persyn_ray import rows
from persyn_ray.config import Recipe, RewardModel
from persyn_ray.layout import run_of
from persyn_ray.schemas import DEAD_LETTERS, RESPONSES
from persyn_ray.stages.generate import Generate
from persyn_ray.stages.store import Store, existing
from persyn_ray.storage import Folder
from persyn_ray.teachers import Teacher

if TYPE_CHECKING:
    from persyn_ray.stages.evaluate import Evaluate
    from persyn_ray.stages.score import Learnability, Quality

Unit = dict[str, str]
FAILED = ("error", "missing", "unavailable")
"""Finish reasons of a response that is not there."""


@dataclass(frozen=True)
class Progress:
    """What one unit did, for the progress line and the record."""

    rows: int = 0
    tokens: int = 0
    errors: int = 0
    unavailable: int = 0
    """Errors that another run may not meet: a teacher that could not be reached."""

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.errors + other.errors,
            self.unavailable + other.unavailable,
        )

    def as_row(self) -> dict[str, int]:
        return asdict(self)


class Work(Protocol):
    """Carries out units; its constructor may be expensive, and runs where the work runs."""

    def __call__(self, unit: Unit) -> Progress: ...


class Collect:
    """Teachers answer what is still unanswered of a shard.

    May be called from several threads at once where all its teachers' engines overlap.

    Args:
        methods: None asks every teacher for every prompt; otherwise a teacher answers the prompts
            that any of these methods assigned to it.
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
        failed = rows.among(new, "finish_reason", FAILED)
        unavailable = rows.where(new, "finish_reason", "unavailable").num_rows
        tokens = rows.total(new, "num_tokens")
        return Progress(new.num_rows, tokens, failed.num_rows, unavailable)

    def close(self) -> None:
        """End all engines."""
        for stage in self.stages.values():
            stage.close()

    def _answer(self, teacher: Teacher, shard: str, prompts: pa.Table) -> pa.Table:
        """New responses of one teacher, filed; those that were unavailable are not filed."""
        store = self.stores[teacher.name]
        wanted = self._wanted(teacher, shard, prompts)
        answered = store.responses(shard, wanted)
        todo = rows.without(wanted, "prompt_id", answered["prompt_id"])
        new = self._stage(teacher)(todo) if todo.num_rows else RESPONSES.empty_table()
        lasting = rows.without(new, "finish_reason", ["unavailable"])
        if lasting.num_rows:
            store.add(shard, lasting)
        self._bury(teacher, shard, pa.concat_tables([answered, new]))
        return new

    def _stage(self, teacher: Teacher) -> Generate:
        with self.lock:
            if teacher.name not in self.stages:
                spent = self.stores[teacher.name].spent() if teacher.budget else (0, 0.0)
                self.stages[teacher.name] = Generate(
                    teacher, self.recipe.pool, self.recipe.responses, self.placement, spent
                )
            return self.stages[teacher.name]

    def _bury(self, teacher: Teacher, shard: str, responses: pa.Table) -> None:
        """Dead letters of all failures, also of those that an earlier call met."""
        step = "collect" if self.methods is None else "synthesize"
        letters = dead_letters(step, rows.among(responses, "finish_reason", FAILED))
        name = f"{shard.removesuffix('.parquet')}.{teacher.name}.parquet"
        if letters.num_rows:
            self.run.dead_letters(step).write_table(name, letters)
        else:
            self.run.dead_letters(step).remove(name)

    def _wanted(self, teacher: Teacher, shard: str, prompts: pa.Table) -> pa.Table:
        if self.methods is None:
            return prompts
        assigned = pa.concat_tables(
            [self.run.assignment(method).read_table(shard) for method in self.methods]
        )
        mine = rows.where(assigned, "teacher", teacher.name)
        return rows.among(prompts, "prompt_id", mine["prompt_id"])


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


class Score:
    """Both signals, or one of them, for the responses of a shard that have none yet."""

    def __init__(self, recipe: Recipe, learnability: bool = True, quality: bool = True) -> None:
        self.recipe, self.run = recipe, run_of(recipe)
        self.with_learnability, self.with_quality = learnability, quality
        self.learnability: Learnability | None = None
        self.quality: Quality | None = None

    def __call__(self, unit: Unit) -> Progress:
        shard = unit["shard"]
        prompts = self.run.prompts.read_table(shard)
        done = Progress()
        if self.with_learnability:
            done = self._signal(shard, prompts, self.run.learnability, self._learnability())
        if self.with_quality:
            checked = self._signal(shard, prompts, self.run.quality, self._quality())
            done = Progress(max(done.rows, checked.rows), done.tokens, done.errors + checked.errors)
        return done

    def _signal(
        self,
        shard: str,
        prompts: pa.Table,
        folder_of: Callable[[Recipe, Teacher], Folder],
        stage: "Learnability | Quality",
    ) -> Progress:
        """Score all teachers' new responses to a shard's prompts in one call, filed by teacher."""
        old: dict[str, pa.Table] = {}
        todo: list[pa.Table] = []
        for teacher in self.recipe.teachers:
            old[teacher.name] = existing(folder_of(self.recipe, teacher), shard, stage.writes)
            responses = existing(self.run.responses(teacher), shard, RESPONSES)
            responses = rows.among(responses, "prompt_id", prompts["prompt_id"])
            todo.append(rows.without(responses, "prompt_id", old[teacher.name]["prompt_id"]))
        waiting = pa.concat_tables(todo)
        if not waiting.num_rows:
            return Progress()
        scores = stage(prompts, waiting)
        for teacher in self.recipe.teachers:
            new = rows.where(scores, "teacher", teacher.name)
            if new.num_rows:
                table = pa.concat_tables([old[teacher.name], new])
                folder_of(self.recipe, teacher).write_table(shard, table)
        tokens = rows.total(scores, "num_tokens") if "num_tokens" in scores.column_names else 0
        return Progress(scores.num_rows, tokens, scores.column(2).null_count)

    def _learnability(self) -> "Learnability":
        from persyn_ray.stages.score import Learnability

        if self.learnability is None:
            scoring = self.recipe.scoring
            self.learnability = Learnability(
                self.recipe.student,
                scoring.tokens_per_batch,
                scoring.max_length,
                self.recipe.responses,
            )
        return self.learnability

    def _quality(self) -> "Quality":
        from persyn_ray.stages.score import Quality

        if self.quality is None:
            self.quality = Quality(self.recipe.scoring.quality, self.recipe.responses)
        return self.quality


class CollectAndScore:
    """Collects a shard and scores it in the same process, for models that fit in one together."""

    def __init__(self, recipe: Recipe, teachers: tuple[str, ...] | None = None) -> None:
        self.collect, self.score = Collect(recipe, None, teachers), Score(recipe)

    def __call__(self, unit: Unit) -> Progress:
        collected = self.collect(unit)
        self.score(unit)
        return collected


def is_scored(recipe: Recipe, shard: str) -> bool:
    """Whether every response to a shard has both signals; reads no more than the files' footers."""
    run = run_of(recipe)
    for teacher in recipe.teachers:
        counts = {
            folder.num_rows(shard) if folder.exists(shard) else 0
            for folder in (
                run.responses(teacher),
                run.learnability(recipe, teacher),
                run.quality(recipe, teacher),
            )
        }
        if len(counts) > 1:
            return False
    return True


class RouteShard:
    """Router logits of a shard."""

    def __init__(self, recipe: Recipe) -> None:
        from persyn_ray.stages.route import Route

        self.recipe, self.run = recipe, run_of(recipe)
        with TemporaryDirectory() as scratch:
            folder = self.run.router.download(Path(scratch))
            self.stage = Route(folder, recipe.teachers, recipe.router.max_length)

    def __call__(self, unit: Unit) -> Progress:
        shard = unit["shard"]
        if self.run.logits.exists(shard):
            return Progress()
        logits = self.stage(self.run.prompts.read_table(shard))
        self.run.logits.write_table(shard, logits)
        return Progress(logits.num_rows)


class EvaluateShard:
    """A student's answers to held-out problems checked. Unit: shard, student, number of rows."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.run = recipe, run_of(recipe)
        self.stage: Evaluate | None = None

    def __call__(self, unit: Unit) -> Progress:
        shard, student = unit["shard"], unit["student"]
        folder = self.run.evaluations(student)
        if folder.exists(shard):
            return Progress()
        if self.stage is None or self.stage.student != student:
            from persyn_ray.stages.evaluate import Evaluate

            model = self.run.student_model(self.recipe, student)
            self.stage = Evaluate(student, model, self.recipe.evaluate, check_of(self.recipe))
        problems = self.run.prompts.read_table(shard).slice(0, int(unit["rows"]))
        table = self.stage(problems)
        folder.write_table(shard, table)
        return Progress(table.num_rows, self.stage.num_tokens)


def check_of(recipe: Recipe) -> Any:
    """How held-out answers are checked, or None when the recipe knows no check."""
    if recipe.evaluate.check is not None:
        return recipe.evaluate.check
    quality = recipe.scoring.quality
    return None if isinstance(quality, RewardModel) else quality


def units_of(shards: Sequence[str]) -> list[Unit]:
    """One unit per shard."""
    return [{"shard": shard} for shard in shards]
