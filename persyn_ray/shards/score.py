"""Scores responses: rows of a shard in, learnability and qualities of their responses filed.

Several threads may carry out units at once: a judge whose engine streams then gets the responses of
all of them, and all else takes turns. A unit may be carried out by any executor and more than once:
responses that have their scores are not scored again, and a part appears only when it is complete.
Stages with models are imported where they are built: planning a run or looking into one needs no
torch.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from persyn_ray.checks.own_function import CRASHED, FAILED, TIMED_OUT
from persyn_ray.data import selection
from persyn_ray.errors import StepError
from persyn_ray.recipe.own_code import PythonQualityConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import (
    CHECKS,
    EvaluateCheck,
    JudgeConfig,
    QualityPartConfig,
    RecordedScoresConfig,
    RewardModelConfig,
    ScoringConfig,
)
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.part_index import PartIndex
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.response_store import belonging, hashed
from persyn_ray.shards.tables import LastTables
from persyn_ray.shards.units import Progress, Unit, rows_of
from persyn_ray.stages.judge import OPEN, OVER_BUDGET, UNAVAILABLE
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of, run_of
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSE_HASH, RESPONSES, filed

BROKEN = (FAILED, TIMED_OUT, CRASHED)
"""Outcomes of rows at which a function of one's own did not do what it should."""

if TYPE_CHECKING:
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
        self.teachers = recipe.teachers
        self.read_shard = LastTables(self.run.prompts.read_table)
        self.responses = {
            t.name: PartIndex(self.run.responses(t), RESPONSES) for t in self.teachers
        }
        self.scores: dict[str, PartIndex] = {}
        self.learnability: Learnability | None = None
        self.qualities: dict[str, Quality] = {}
        self.building, self.measuring = threading.Lock(), threading.Lock()

    def __call__(self, unit: Unit) -> Progress:
        shard, prompts = unit["shard"], rows_of(unit, self.read_shard(unit["shard"]))
        said = pa.concat_tables(
            self.responses[t.name].rows(shard, prompts["prompt_id"]) for t in self.teachers
        )
        done = Progress()
        if self.with_learnability:
            folder_of, stage = self.run.learnability, self._measure_learnability
            done = self._signal(shard, prompts, said, folder_of, LEARNABILITY, stage)
        for part in self.parts:
            folder_of = partial(self.run.quality, part=part)
            stage = partial(self._measure_quality, part)
            found = self._signal(shard, prompts, said, folder_of, QUALITY, stage)
            done = replace(done + found, rows=max(done.rows, found.rows))
        return done

    def close(self) -> None:
        """End the engines of a judge or of the student."""
        if self.learnability is not None:
            self.learnability.close()
        for quality in self.qualities.values():
            quality.close()

    def open_rows(self, shard: str) -> list[int]:
        """Places of the prompts of a shard with a response that lacks a signal which this finds.

        They are in the order of ids, in which rows lie in parts that were put together: so the
        responses to neighbours are read together.
        """
        ids = self.run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()
        is_open: set[str] = set()
        for teacher in self.teachers:
            is_open.update(self._open_ids(teacher, shard))
        return [place for name, place in sorted(zip(ids, count())) if name in is_open]

    def _open_ids(self, teacher: TeacherConfig, shard: str) -> set[str]:
        """Prompts of a shard whose response by a teacher lacks a signal."""
        found = [
            existing(folder, shard, filed(schema), ["prompt_id", RESPONSE_HASH.name])
            for folder, schema in self._signals_of(teacher)
        ]
        # Texts tell whether a score is that of the response that is there now.
        names = ["prompt_id", "response"] if all(of.num_rows for of in found) else ["prompt_id"]
        responses = existing(self.run.responses(teacher), shard, RESPONSES, names)
        if "response" not in names:
            return set(responses["prompt_id"].to_pylist())
        left = [
            selection.without(responses, "prompt_id", belonging(of, responses)["prompt_id"])
            for of in found
        ]
        return {name for table in left for name in table["prompt_id"].to_pylist()}

    def _signals_of(self, teacher: TeacherConfig) -> list[tuple[Folder, pa.Schema]]:
        """Where the signals of a teacher's responses are filed, and as what."""
        measures = [(self.run.learnability(teacher), LEARNABILITY)] * self.with_learnability
        return measures + [(self.run.quality(teacher, part), QUALITY) for part in self.parts]

    def _signal(
        self,
        shard: str,
        prompts: pa.Table,
        said: pa.Table,
        folder_of: Callable[[TeacherConfig], Folder],
        writes: pa.Schema,
        stage: Callable[[pa.Table, pa.Table], pa.Table],
    ) -> Progress:
        """Score those of the responses `said` that are not scored, in one call; filed by teacher.

        A row whose judge could not be reached, or whose budget was used up, is not filed: it is
        asked for again another time.
        """
        todo: list[pa.Table] = []
        for teacher in self.teachers:
            responses = selection.where(said, "teacher", teacher.name)
            known = self._index(folder_of(teacher), writes).known(shard, responses["prompt_id"])
            scored = belonging(known, responses)["prompt_id"]
            todo.append(selection.without(responses, "prompt_id", scored))
        waiting = pa.concat_tables(todo)
        if not waiting.num_rows:
            return Progress()
        scores = _with_hashes(stage(prompts, waiting), waiting)
        lasting = scores
        if writes is QUALITY:
            lasting = selection.without(scores, "outcome", list(OPEN))
        for teacher in self.teachers:
            new = selection.where(lasting, "teacher", teacher.name)
            if new.num_rows:
                add_part(folder_of(teacher), {shard: new})
        tokens = selection.total(scores, "num_tokens") if "num_tokens" in scores.column_names else 0
        over = selection.where(scores, "outcome", OVER_BUDGET).num_rows if writes is QUALITY else 0
        away = scores.num_rows - lasting.num_rows - over
        return Progress(scores.num_rows, tokens, scores.column(2).null_count, away, over)

    def _index(self, folder: Folder, schema: pa.Schema) -> PartIndex:
        """What a table of scores holds, by prompt and response."""
        with self.building:
            if folder.address not in self.scores:
                keys = ("prompt_id", RESPONSE_HASH.name)
                self.scores[folder.address] = PartIndex(folder, filed(schema), keys)
            return self.scores[folder.address]

    def _measure_learnability(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        with self.measuring:
            return self._learnability()(prompts, responses)

    def _measure_quality(
        self, part: QualityPartConfig, prompts: pa.Table, responses: pa.Table
    ) -> pa.Table:
        with self.building:
            stage = self._quality(part)
        with nullcontext() if stage.overlaps else self.measuring:
            scores = stage(prompts, responses)
        outcomes = set(scores["outcome"].to_pylist())
        if UNAVAILABLE in outcomes and outcomes <= {UNAVAILABLE, "no_response"}:
            self._require_once_reached(part, scores)
        if isinstance(part.quality, PythonQualityConfig) and outcomes <= {*BROKEN, "no_response"}:
            self._require_once_scored(part, part.quality.function, scores)
        return scores

    def _require_once_scored(
        self, part: QualityPartConfig, function: str, scores: pa.Table
    ) -> None:
        """Go on where a function fails at some rows, but not where it has never scored any."""
        if self._has_stored(part):
            return
        failed = selection.among(scores, "outcome", pa.array(BROKEN))
        if failed.num_rows:
            raise StepError(
                f"The function {function!r} of scoring.quality (part {part.name!r}) failed at all "
                f"{failed.num_rows} responses: {failed['detail'][0].as_py()}."
            )

    def _has_stored(self, part: QualityPartConfig) -> bool:
        return any(self.run.quality(t, part).names() for t in self.recipe.teachers)

    def _require_once_reached(self, part: QualityPartConfig, scores: pa.Table) -> None:
        """Go on without a judge for a while, but not where it has never answered."""
        if self._has_stored(part):
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
    """Collects a shard and scores it in the same process, for models that fit in one together.

    Args:
        teachers: names of those who answer here; all of them by default.
        placement: placement group for the workers of a large teacher's engine.
    """

    def __init__(
        self, recipe: Recipe, teachers: tuple[str, ...] | None = None, placement: Any = None
    ) -> None:
        checks, _ = checks_and_models(recipe.scoring)
        self.collect = Collect(recipe, None, teachers, placement)
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


def checks_and_models(
    scoring: ScoringConfig,
) -> tuple[tuple[QualityPartConfig, ...], tuple[QualityPartConfig, ...]]:
    """The checks, which go along with the student, and the qualities with actors of their own."""
    apart = RewardModelConfig | JudgeConfig | RecordedScoresConfig | PythonQualityConfig
    models = tuple(part for part in parts_of(scoring) if isinstance(part.quality, apart))
    return tuple(part for part in parts_of(scoring) if part not in models), models


def check_of(evaluate: EvaluateConfig, scoring: ScoringConfig) -> EvaluateCheck | None:
    """How held-out answers are checked, or None when the recipe knows no check.

    Of several qualities it is the first that is one; a function of one's own is where it is named
    for evaluation.
    """
    if evaluate.check is not None:
        return evaluate.check
    qualities = (part.quality for part in parts_of(scoring))
    return next((how for how in qualities if isinstance(how, CHECKS)), None)
