"""Units of work: one shard of one table, read from the run folder, computed by a stage, written
back.

A unit is a small dict (`{"shard": …}`), so a whole step is a list of units that any executor can
run in any order and more than once: what is there already is not done again, and a file appears
only when it is complete. Nothing here knows what runs it. Stages with models are imported where
they are built: planning a run or looking into one needs no torch.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from persyn_ray import rows
from persyn_ray.config import Recipe
from persyn_ray.layout import run_of
from persyn_ray.schemas import RESPONSES
from persyn_ray.scoring import RewardModel
from persyn_ray.stages.collect import Collect
from persyn_ray.stages.store import existing
from persyn_ray.stages.units import Progress, Unit
from persyn_ray.storage import Folder
from persyn_ray.teachers import Teacher

if TYPE_CHECKING:
    from persyn_ray.stages.evaluate import Evaluate
    from persyn_ray.stages.learnability import Learnability
    from persyn_ray.stages.quality import Quality


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
        from persyn_ray.stages.learnability import Learnability

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
        from persyn_ray.stages.quality import Quality

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
    """Whether every response to a shard has both signals; reads ids alone."""
    run = run_of(recipe)
    for teacher in recipe.teachers:
        answered, *signals = (
            set(folder.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist())
            if folder.exists(shard)
            else set[str]()
            for folder in (
                run.responses(teacher),
                run.learnability(recipe, teacher),
                run.quality(recipe, teacher),
            )
        )
        if not all(answered <= scored for scored in signals):
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
