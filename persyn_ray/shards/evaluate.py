"""Evaluates students: rows of held-out problems in, a student's checked answers filed."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.part_files import ids_of_shard
from persyn_ray.shards.part_index import PartIndex
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.score import check_of
from persyn_ray.shards.tables import LastTables
from persyn_ray.shards.units import Progress, Unit, rows_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, RunLayout, run_of
from persyn_ray.storage.schemas import EVALUATIONS

if TYPE_CHECKING:
    from persyn_ray.stages.evaluate import Evaluate


class EvaluateShard:
    """A student's answers to held-out problems checked, for some rows of a shard.

    May be called from several threads at once, which then all ask the same student.

    Args:
        placement: placement group for the workers of a large student's engine.
    """

    def __init__(self, recipe: Recipe, placement: Any = None) -> None:
        self.recipe, self.run, self.placement = recipe, run_of(recipe), placement
        self.read_shard = LastTables(self.run.prompts.read_table)
        self.done: dict[str, PartIndex] = {}
        self.stage: Evaluate | None = None
        self.scratch: TemporaryDirectory[str] | None = None
        self.lock = threading.Lock()

    def __call__(self, unit: Unit) -> Progress:
        shard, student = unit["shard"], unit.get("student", BEFORE)
        folder = self.run.evaluations(student)
        with self.lock:
            done = self.done.setdefault(student, PartIndex(folder, EVALUATIONS))
        problems = done.without(shard, rows_of(unit, self.read_shard(shard)))
        if not problems.num_rows:
            return Progress()
        with self.lock:
            stage = self._stage(student)
        table = stage(problems)
        add_part(folder, {shard: table})
        return Progress(table.num_rows, stage.take_tokens())

    def close(self) -> None:
        """End the engine of the student at work."""
        if self.stage is not None:
            self.stage.close()

    def _stage(self, student: str) -> "Evaluate":
        from persyn_ray.stages.evaluate import Evaluate

        if self.stage is None or self.stage.student != student:
            self.close()
            model = self._within_reach(self.run.student_model(self.recipe.student, student))
            section, recipe = self.recipe.evaluate, self.recipe
            check = check_of(section, recipe.scoring)
            assert check is not None, "students are evaluated where the recipe knows a check"
            self.stage = Evaluate(student, model, section, check, recipe.responses, self.placement)
        return self.stage

    def _within_reach(self, student: StudentConfig) -> StudentConfig:
        """The student with its files on this machine, as long as it is the one at work."""
        if "://" not in student.name:
            return student
        self.scratch = TemporaryDirectory()  # the one before goes with its student
        folder = Folder(student.name).download(Path(self.scratch.name))
        return student.model_copy(update={"name": str(folder)})


def without_rows(run: RunLayout, folder: Folder, shard: str) -> list[int]:
    """Places of the prompts of a shard that a table of parts has no row of."""
    ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()
    done = set(ids_of_shard(folder, shard))
    return [place for place, name in enumerate(ids) if name not in done]
