"""Units of work: one shard of one table, read from the run folder, computed by a stage, filed.

A unit is a small dict (`{"shard": …}`), so a whole step is a list of units that any executor can
run in any order and more than once: what is there already is not done again, and a file appears
only when it is complete. Nothing here knows what runs it. Stages with models are imported where
they are built: planning a run or looking into one needs no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.errors import StepError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.comparison import EMBEDDED
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import (
    Check,
    ExactAnswerConfig,
    ExactMatchConfig,
    InstructionsConfig,
    JudgeConfig,
    QualityPartConfig,
    RecordedScoresConfig,
    RewardModelConfig,
    ScoringConfig,
)
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.response_store import existing, hashed, kept_scores, scores_of
from persyn_ray.shards.units import Progress, Unit
from persyn_ray.stages.judge import OPEN, OVER_BUDGET, UNAVAILABLE
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of, run_of
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSE_HASH, RESPONSES

if TYPE_CHECKING:
    from persyn_ray.stages.evaluate import Evaluate
    from persyn_ray.stages.learnability import Learnability
    from persyn_ray.stages.quality import Quality


class Score:
    """Both signals, or some of them, for the responses of a shard that have none yet.

    Learnability is left out where nothing of the recipe reads it.

    Args:
        parts: the qualities to find; all of the recipe's by default.
    """

    def __init__(
        self,
        recipe: Recipe,
        learnability: bool = True,
        parts: Sequence[QualityPartConfig] | None = None,
    ) -> None:
        self.recipe, self.run = recipe, run_of(recipe)
        self.with_learnability = learnability and recipe.measures_learnability
        self.parts = parts_of(recipe.scoring) if parts is None else tuple(parts)
        self.learnability: Learnability | None = None
        self.qualities: dict[str, Quality] = {}

    def __call__(self, unit: Unit) -> Progress:
        shard = unit["shard"]
        prompts = self.run.prompts.read_table(shard)
        done = Progress()
        if self.with_learnability:
            folder_of, stage = self.run.learnability, self._measure_learnability
            done = self._signal(shard, prompts, folder_of, LEARNABILITY, stage)
        for part in self.parts:
            folder_of = partial(self.run.quality, part=part)
            stage = partial(self._measure_quality, part)
            found = self._signal(shard, prompts, folder_of, QUALITY, stage)
            done = replace(done + found, rows=max(done.rows, found.rows))
        return done

    def close(self) -> None:
        """End the engines of a judge or of the student."""
        if self.learnability is not None:
            self.learnability.close()
        for quality in self.qualities.values():
            quality.close()

    def is_complete(self, shard: str) -> bool:
        """Whether every response to a shard has all the signals that this finds."""
        prompts = self.run.prompts.read_table(shard, ["prompt_id"])
        columns = ["prompt_id", "response"]
        for teacher in self.recipe.teachers:
            responses = existing(self.run.responses(teacher), shard, RESPONSES, columns)
            answered = selection.among(responses, "prompt_id", prompts["prompt_id"])
            for folder, schema in self._signals_of(teacher):
                found = scores_of(folder, shard, schema, responses)
                if selection.without(answered, "prompt_id", found["prompt_id"]).num_rows:
                    return False
        return True

    def _signals_of(self, teacher: TeacherConfig) -> list[tuple[Folder, pa.Schema]]:
        """Where the signals of a teacher's responses are filed, and as what."""
        measures = [(self.run.learnability(teacher), LEARNABILITY)] * self.with_learnability
        return measures + [(self.run.quality(teacher, part), QUALITY) for part in self.parts]

    def _signal(
        self,
        shard: str,
        prompts: pa.Table,
        folder_of: Callable[[TeacherConfig], Folder],
        writes: pa.Schema,
        stage: Callable[[pa.Table, pa.Table], pa.Table],
    ) -> Progress:
        """Score all teachers' new responses to a shard's prompts in one call, filed by teacher.

        A row whose judge could not be reached, or whose budget was used up, is not filed: it is
        asked for again another time.
        """
        old: dict[str, pa.Table] = {}
        todo: list[pa.Table] = []
        for teacher in self.recipe.teachers:
            responses = existing(self.run.responses(teacher), shard, RESPONSES)
            responses = selection.among(responses, "prompt_id", prompts["prompt_id"])
            old[teacher.name] = kept_scores(folder_of(teacher), shard, writes, responses)
            todo.append(selection.without(responses, "prompt_id", old[teacher.name]["prompt_id"]))
        waiting = pa.concat_tables(todo)
        if not waiting.num_rows:
            return Progress()
        scores = _with_hashes(stage(prompts, waiting), waiting)
        lasting = scores
        if writes is QUALITY:
            lasting = selection.without(scores, "outcome", list(OPEN))
        for teacher in self.recipe.teachers:
            new = selection.where(lasting, "teacher", teacher.name)
            if new.num_rows:
                table = pa.concat_tables([old[teacher.name], new])
                folder_of(teacher).write_table(shard, table)
        tokens = selection.total(scores, "num_tokens") if "num_tokens" in scores.column_names else 0
        over = selection.where(scores, "outcome", OVER_BUDGET).num_rows if writes is QUALITY else 0
        away = scores.num_rows - lasting.num_rows - over
        return Progress(scores.num_rows, tokens, scores.column(2).null_count, away, over)

    def _measure_learnability(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        return self._learnability()(prompts, responses)

    def _measure_quality(
        self, part: QualityPartConfig, prompts: pa.Table, responses: pa.Table
    ) -> pa.Table:
        scores = self._quality(part)(prompts, responses)
        outcomes = set(scores["outcome"].to_pylist())
        if UNAVAILABLE in outcomes and outcomes <= {UNAVAILABLE, "no_response"}:
            self._require_once_reached(part, scores)
        return scores

    def _require_once_reached(self, part: QualityPartConfig, scores: pa.Table) -> None:
        """Go on without a judge for a while, but not where it has never answered."""
        if any(self.run.quality(t, part).names() for t in self.recipe.teachers):
            return
        open_rows = selection.where(scores, "outcome", UNAVAILABLE)
        raise StepError(
            f"The judge of scoring.quality (part {part.name!r}) could not be reached for a single "
            f"one of {open_rows.num_rows} responses: {open_rows['detail'][0].as_py()}. What is "
            "scored stays; the same command goes on."
        )

    def _learnability(self) -> "Learnability":
        from persyn_ray.stages.learnability import Learnability

        if self.learnability is None:
            scoring = self.recipe.scoring
            self.learnability = Learnability(
                self.recipe.student,
                scoring.tokens_per_batch,
                scoring.max_length,
                self.recipe.responses,
                too_long=scoring.too_long,
                local_window=scoring.local_window,
                backend=scoring.backend,
                arguments=scoring.arguments,
            )
        return self.learnability

    def _quality(self, part: QualityPartConfig) -> "Quality":
        from persyn_ray.stages.quality import Quality

        if part.name not in self.qualities:
            spending = self.run.spending_of_judge(part)
            stage = Quality(part.quality, self.recipe.responses, spending=spending)
            self.qualities[part.name] = stage
        return self.qualities[part.name]


class CollectAndScore:
    """Collects a shard and scores it in the same process, for models that fit in one together."""

    def __init__(self, recipe: Recipe, teachers: tuple[str, ...] | None = None) -> None:
        checks, _ = checks_and_models(recipe.scoring)
        self.collect = Collect(recipe, None, teachers)
        self.score = Score(recipe, parts=checks)

    def __call__(self, unit: Unit) -> Progress:
        collected = self.collect(unit)
        self.score(unit)
        return collected


def _with_hashes(scored: pa.Table, responses: pa.Table) -> pa.Table:
    """Scores as they are filed; rows meet by prompt and teacher."""
    keys = (responses[name].to_pylist() for name in ("prompt_id", "teacher"))
    hashes = dict(zip(zip(*keys, strict=True), hashed(responses).to_pylist(), strict=True))
    of = (scored[name].to_pylist() for name in ("prompt_id", "teacher"))
    column = pa.array([hashes[key] for key in zip(*of, strict=True)], pa.string())
    return scored.append_column(RESPONSE_HASH, column)


class RouteShard:
    """Router logits of a shard."""

    def __init__(self, recipe: Recipe) -> None:
        from persyn_ray.stages.embed import Embed
        from persyn_ray.stages.route import RoutePrompts

        self.recipe, self.run = recipe, run_of(recipe)
        with TemporaryDirectory() as scratch:
            folder = self.run.router.download(Path(scratch))
            self.stage = RoutePrompts(folder, recipe.teachers, recipe.router.max_length)
        is_embedded = bool(set(EMBEDDED) & set(recipe.compare.methods))
        self.embed = Embed(recipe.router, recipe.pool.names) if is_embedded else None

    def __call__(self, unit: Unit) -> Progress:
        shard = unit["shard"]
        if self.run.logits.holds_table(shard):
            return Progress()
        prompts = self.run.prompts.read_table(shard)
        if self.embed is not None:
            self.run.embeddings.write_table(shard, self.embed(prompts))
        logits, novelty = self.stage(prompts)
        if novelty is not None:
            self.run.novelty.write_table(shard, novelty)
        self.run.logits.write_table(shard, logits)  # last: the proof that the shard is done
        return Progress(logits.num_rows)


class EvaluateShard:
    """A student's answers to held-out problems checked. Unit: shard, student, number of rows."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.run = recipe, run_of(recipe)
        self.stage: Evaluate | None = None
        self.scratch: TemporaryDirectory[str] | None = None

    def __call__(self, unit: Unit) -> Progress:
        shard, student = unit["shard"], unit["student"]
        folder = self.run.evaluations(student)
        if folder.holds_table(shard):
            return Progress()
        if self.stage is None or self.stage.student != student:
            from persyn_ray.stages.evaluate import Evaluate

            model = self._within_reach(self.run.student_model(self.recipe.student, student))
            section, recipe = self.recipe.evaluate, self.recipe
            check = check_of(section, recipe.scoring)
            assert check is not None, "students are evaluated where the recipe knows a check"
            self.stage = Evaluate(student, model, section, check, recipe.responses)
        problems = self.run.prompts.read_table(shard).slice(0, int(unit["rows"]))
        table = self.stage(problems)
        folder.write_table(shard, table)
        return Progress(table.num_rows, self.stage.num_tokens)

    def _within_reach(self, student: StudentConfig) -> StudentConfig:
        """The student with its files on this machine, as long as it is the one at work."""
        if "://" not in student.name:
            return student
        self.scratch = TemporaryDirectory()  # the one before goes with its student
        folder = Folder(student.name).download(Path(self.scratch.name))
        return student.model_copy(update={"name": str(folder)})


def checks_and_models(
    scoring: ScoringConfig,
) -> tuple[tuple[QualityPartConfig, ...], tuple[QualityPartConfig, ...]]:
    """The checks, which go along with the student, and the qualities with actors of their own."""
    apart = RewardModelConfig | JudgeConfig | RecordedScoresConfig
    models = tuple(part for part in parts_of(scoring) if isinstance(part.quality, apart))
    return tuple(part for part in parts_of(scoring) if part not in models), models


def check_of(evaluate: EvaluateConfig, scoring: ScoringConfig) -> Check | None:
    """How held-out answers are checked, or None when the recipe knows no check.

    Of several qualities it is the first that is one.
    """
    for how in (evaluate.check, *(part.quality for part in parts_of(scoring))):
        if isinstance(how, ExactAnswerConfig | ExactMatchConfig | InstructionsConfig):
            return how
    return None
