"""Paths of a run folder. The only module that spells folder names.

RUN/persyn-run.json (made first: this is a run)  recipe.json  records/STEP.json
attempts/NUMBER.json  tables/…  router/  students/METHOD/  checkpoints/  dataset/
lm_eval/STUDENT/ (results and samples of the evaluation harness)  logs/STEP/ (of trainings)
exports/FORM/ (see persyn_ray/exports)
ledger/KIND/NAME/ (what endpoints were paid, see ledger.py)
report.html  report.json  seeds/NUMBER/ (runs of a comparison)  comparison.{html,md,json}

Responses, learnability and quality are filed under a key made of all that determines them, so
another alpha, student or teacher list finds what is still valid and leaves the rest in place.
Responses may lie outside the run, in a store that runs share (`responses.store`); below a teacher's
key they are filed by how the prompts were put into shards, see shards/response_store.py.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import (
    JudgeConfig,
    QualityPartConfig,
    ScoringConfig,
    SeveralConfig,
    Single,
)
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.records import Settings, fingerprint
from persyn_ray.storage.results import PromptsResult, read_result
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, filed

PERSYN = "persyn"
BEFORE = "before"

NOT_IN_RESPONSES: dict[str, Any] = {
    "licence": True,
    "resources": True,
    "price": True,
    "budget": True,
    "size": True,
    "retired": True,
    "num_probe": True,
    # How fast, where and with which key: none of it is in the text.
    "engine": {
        "batch_size",
        "base_url",
        "api_key_env",
        "api_key_file",
        "timeout_seconds",
        "attempts",
        "max_prompt_tokens",
    },
}
NOT_IN_QUALITY: dict[str, Any] = {
    "tokens_per_batch": True,
    "processes": True,
    "rows_per_call": True,
    "price": True,
    "budget": True,
    "engine": NOT_IN_RESPONSES["engine"],
}


def teacher_identity(teacher: TeacherConfig) -> Settings:
    """All that determines a teacher's responses: model, engine, template, sampling and seed."""
    return teacher.model_dump(mode="json", exclude=NOT_IN_RESPONSES)


def student_identity(
    student: StudentConfig, scoring: ScoringConfig, responses: ResponsesConfig
) -> Settings:
    """All that determines learnability."""
    return {
        "student": student.model_dump(mode="json"),
        **measuring(scoring),
        **seen_by_student(responses),
    }


def measuring(scoring: ScoringConfig) -> Settings:
    """What the recipe says about how the student's measures are taken."""
    names = {"backend", "max_length", "too_long", "local_window"}
    return scoring.model_dump(mode="json", include=names)


def parts_of(scoring: ScoringConfig) -> tuple[QualityPartConfig, ...]:
    """The recipe's qualities, each by itself; a single one is the only part, named quality."""
    quality = scoring.quality
    if isinstance(quality, SeveralConfig):
        return quality.parts
    return (QualityPartConfig(name="quality", quality=quality, weight=1.0),)


def quality_identity(how: Single) -> Settings:
    """All that a recipe says about one quality that determines its values."""
    return how.model_dump(mode="json", exclude=NOT_IN_QUALITY)


def marking(responses: ResponsesConfig) -> Settings:
    """Settings of all teachers that stored responses depend on."""
    return responses.model_dump(mode="json", include={"think_tags", "loop_repeats"})


def seen_by_student(responses: ResponsesConfig) -> Settings:
    """What becomes of a response before it is scored and learned."""
    return responses.model_dump(mode="json", include={"thinking", "think_tags"})


def _key(name: str, value: Settings) -> str:
    return f"{name}-{fingerprint(value)[:8]}"


@dataclass(frozen=True)
class Identities:
    """What of a recipe determines stored values and so names their folders, beside the teacher."""

    responses: Settings
    """How thinking is tagged, and what counts as a loop."""
    learnability: Settings
    """The student, and how its measures are taken."""
    quality: Settings
    """What every quality reads; its own settings come on top."""


@dataclass(frozen=True)
class RunLayout:
    """The folders of one run."""

    root: Folder
    store: Folder | None = None
    """Where responses lie, if not in the run."""
    identities: Identities | None = None
    """Names tables of responses and scores; None where a run is known by its address alone."""
    shared_ledger: Folder | None = None
    """Where spending is recorded, if not in the run."""

    @property
    def records(self) -> Folder:
        return self.root / "records"

    @property
    def attempts(self) -> Folder:
        return self.root / "attempts"

    @property
    def prompts(self) -> Folder:
        return self.root / "tables" / "prompts"

    def dead_letters(self, step: str) -> Folder:
        return self.root / "tables" / "dead_letters" / step

    def unavailable(self, step: str, teacher: str) -> Folder:
        """Notes of what a teacher could not be reached for, by shard."""
        return self.root / "tables" / "unavailable" / step / teacher

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
    def embeddings(self) -> Folder:
        return self.root / "tables" / "embeddings"

    @property
    def novelty(self) -> Folder:
        return self.root / "tables" / "novelty"

    @property
    def checkpoints(self) -> Folder:
        return self.root / "checkpoints"

    @property
    def dataset(self) -> Folder:
        return self.root / "dataset"

    def exported(self, form: str) -> Folder:
        """Where `persyn export` writes, if it is told no other place."""
        return self.root / "exports" / form

    def require_inside(self, folder: Folder) -> None:
        """Refuse a folder of this run that a link leads out of it.

        Raises:
            ConfigError: its place is not below the run's own.
        """
        if not folder.is_below(self.root):
            raise ConfigError(
                f"{folder.address} leads out of the run in {self.root.address}: nothing there is "
                "removed or written. Remove the link, or set `run` to the place itself."
            )

    def remove(self, folder: Folder) -> None:
        """Delete one of the run's own folders, if it is there; never anything outside the run."""
        self.require_inside(folder)
        folder.remove()

    def seed(self, number: int) -> Folder:
        """The run of one seed of a comparison."""
        return self.root / "seeds" / str(number)

    @property
    def ledger(self) -> Folder:
        """What is spent against budgets: of this run, or of those that share the ledger."""
        return self.shared_ledger or self.root / "ledger"

    def spending_of(self, teacher: TeacherConfig) -> Account:
        """This process's part of what a teacher has cost."""
        folder = self.ledger / "teachers" / teacher.name
        return Account(teacher.budget, teacher.price, folder)

    def spending_of_judge(self, part: QualityPartConfig) -> Account | None:
        """This process's part of what a judge has cost; None for a quality of another kind."""
        if not isinstance(part.quality, JudgeConfig):
            return None
        folder = self.ledger / "judges" / part.name
        return Account(part.quality.budget, part.quality.price, folder)

    @property
    def response_store(self) -> Folder:
        """All teachers' responses: in a store that runs share, or the run's own."""
        return self.store or self.root / "tables" / "responses"

    def stored_responses(self, teacher: TeacherConfig) -> Folder:
        """A teacher's responses, in folders named by how prompts were put into shards."""
        return self.response_store / self._name(teacher)

    def responses(self, teacher: TeacherConfig) -> Folder:
        """A teacher's responses to this run's shards; step prompts comes first."""
        return self.stored_responses(teacher) / self.sharding

    @cached_property
    def sharding(self) -> str:
        """Names how this run's prompts were put into shards; read once."""
        prompts = read_result(self.records, PromptsResult)
        assert prompts is not None, "step prompts comes first"
        return prompts.sharding

    def learnability(self, teacher: TeacherConfig) -> Folder:
        """The student's measures of a teacher's responses."""
        identity = self._identities.learnability | {"columns": filed(LEARNABILITY).names}
        student = _key("student", identity)
        return self.root / "tables" / "learnability" / student / self._name(teacher)

    def quality(self, teacher: TeacherConfig, part: QualityPartConfig) -> Folder:
        """One quality of a teacher's responses; neither its name nor its weight moves it."""
        identity = quality_identity(part.quality) | self._identities.quality
        kind = _key(part.quality.kind, identity | {"columns": filed(QUALITY).names})
        return self.root / "tables" / "quality" / kind / self._name(teacher)

    def assignment(self, method: str) -> Folder:
        return self.root / "tables" / "assignment" / method

    @property
    def within_limits(self) -> Folder:
        """PerSyn's first choice within the limits of `assignment`, where there are any."""
        return self.root / "tables" / "within_limits"

    def examples(self, method: str) -> Folder:
        return self.root / "tables" / "examples" / method

    def contaminated(self, method: str) -> Folder:
        """Examples left out as they overlap with problems of evaluation."""
        return self.root / "tables" / "contaminated" / method

    def evaluations(self, student: str) -> Folder:
        return self.root / "tables" / "evaluations" / student

    def lm_eval(self, student: str) -> Folder:
        """What the evaluation harness finds of a student: results and samples."""
        return self.root / "lm_eval" / student

    def logs(self, step: str) -> Folder:
        """Logs of a step's trainings, and what trackers file on disk."""
        return self.root / "logs" / step

    def student(self, method: str) -> Folder:
        return self.root / "students" / method

    def student_model(self, before: StudentConfig, student: str) -> StudentConfig:
        """The student before fine-tuning, or as tuned on a method's data."""
        if student == BEFORE:
            return before
        return before.model_copy(update={"name": self.student(student).address, "revision": None})

    @property
    def _identities(self) -> Identities:
        assert self.identities is not None, "run_of(recipe) knows where tables of a recipe lie"
        return self.identities

    def _name(self, teacher: TeacherConfig) -> str:
        return _key(teacher.name, teacher_identity(teacher) | self._identities.responses)


def run_of(recipe: Recipe) -> RunLayout:
    """The run folder that the recipe names, with the store of responses and the ledger."""
    store, ledger, seen = recipe.responses.store, recipe.ledger, seen_by_student(recipe.responses)
    identities = Identities(
        marking(recipe.responses),
        student_identity(recipe.student, recipe.scoring, recipe.responses),
        seen | {"reference_column": recipe.prompts.reference_column},
    )
    return RunLayout(
        Folder.absolute(recipe.run),
        None if store is None else Folder.absolute(store),
        identities,
        None if ledger is None else Folder.absolute(ledger),
    )
