"""Where everything of a run lies. The only place that spells folder names.

RUN/recipe.json  records/STEP.json  tables/…  router/  students/METHOD/  checkpoints/  dataset/
report.html  report.json

Responses, learnability and quality are filed under a key made of all that determines them, so
another alpha, student or teacher list finds what is still valid and leaves the rest in place.
"""

from dataclasses import dataclass
from typing import Any

from persyn_ray.config import Model, Recipe, Teacher
from persyn_ray.records import fingerprint
from persyn_ray.storage import Folder

PERSYN = "persyn"
BEFORE = "before"


def teacher_identity(teacher: Teacher) -> dict[str, Any]:
    """All that determines a teacher's responses; the batch size and the licence do not."""
    return teacher.model_dump(mode="json", exclude={"licence": True, "engine": {"batch_size"}})


def student_identity(recipe: Recipe) -> dict[str, Any]:
    """All that determines learnability."""
    return {
        "student": recipe.student.model_dump(mode="json"),
        "max_length": recipe.scoring.max_length,
    }


def quality_identity(recipe: Recipe) -> dict[str, Any]:
    """All that determines quality."""
    return recipe.scoring.quality.model_dump(mode="json", exclude={"tokens_per_batch"})


def _key(name: str, value: dict[str, Any]) -> str:
    return f"{name}-{fingerprint(value)[:8]}"


@dataclass(frozen=True)
class Run:
    """The folders of one run."""

    root: Folder

    @property
    def records(self) -> Folder:
        return self.root / "records"

    @property
    def prompts(self) -> Folder:
        return self.root / "tables" / "prompts"

    def dead_letters(self, step: str) -> Folder:
        return self.root / "tables" / "dead_letters" / step

    @property
    def rewards(self) -> Folder:
        return self.root / "tables" / "rewards"

    @property
    def logits(self) -> Folder:
        return self.root / "tables" / "logits"

    @property
    def router(self) -> Folder:
        return self.root / "router"

    @property
    def checkpoints(self) -> Folder:
        return self.root / "checkpoints"

    @property
    def dataset(self) -> Folder:
        return self.root / "dataset"

    def responses(self, teacher: Teacher) -> Folder:
        return self.root / "tables" / "responses" / _key(teacher.name, teacher_identity(teacher))

    def learnability(self, recipe: Recipe, teacher: Teacher) -> Folder:
        student = _key("student", student_identity(recipe))
        return self.root / "tables" / "learnability" / student / self._name(teacher)

    def quality(self, recipe: Recipe, teacher: Teacher) -> Folder:
        kind = _key(recipe.scoring.quality.kind, quality_identity(recipe))
        return self.root / "tables" / "quality" / kind / self._name(teacher)

    def assignment(self, method: str) -> Folder:
        return self.root / "tables" / "assignment" / method

    def examples(self, method: str) -> Folder:
        return self.root / "tables" / "examples" / method

    def evaluations(self, student: str) -> Folder:
        return self.root / "tables" / "evaluations" / student

    def student(self, method: str) -> Folder:
        return self.root / "students" / method

    def student_model(self, recipe: Recipe, student: str) -> Model:
        """The student before fine-tuning, or as tuned on a method's data."""
        if student == BEFORE:
            return recipe.student
        return recipe.student.model_copy(
            update={"name": self.student(student).address, "revision": None}
        )

    @staticmethod
    def _name(teacher: Teacher) -> str:
        return _key(teacher.name, teacher_identity(teacher))


def run_of(recipe: Recipe) -> Run:
    """The run folder that the recipe names."""
    return Run(Folder.absolute(recipe.run))
