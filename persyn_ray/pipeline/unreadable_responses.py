"""Dead letters for responses that a chat template cannot carry, with reasons.

They are derived from the stored signals, so that they are there whoever scored the rows, and when.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypedDict

import pyarrow as pa
from rich.console import Console

from persyn_ray.data import selection
from persyn_ray.errors import DataError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import QualityPartConfig, RewardModelConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.response_store import scores_of
from persyn_ray.stages.quality import UNREADABLE
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.schemas import DEAD_LETTERS, LEARNABILITY, QUALITY, RESPONSES

Letter = dict[str, str]
"""A row of DEAD_LETTERS."""


class Verdict(TypedDict):
    """What a row of scores says about its response."""

    prompt_id: str
    teacher: str
    outcome: str
    detail: str


def file_unreadable(recipe: Recipe, run: RunLayout, shards: Sequence[str], console: Console) -> int:
    """Write dead letters for those in some shards, and say how many there are; returns their count.

    Raises:
        DataError: a model can read not a single response: then its template is at fault.
    """
    student = recipe.student.name if recipe.measures_learnability else None
    parts = parts_of(recipe.scoring)
    num_filed = 0
    outcomes: dict[str, Counter[str]] = {}
    first: dict[str, str] = {}
    for shard in shards:
        letters: list[Letter] = []
        for model, row in _verdicts(recipe.teachers, student, parts, run, shard):
            outcomes.setdefault(model, Counter())[row["outcome"]] += 1
            if row["outcome"] == UNREADABLE:
                first.setdefault(model, row["detail"])
                letters.append(_letter(model, row))
        _replace(run.dead_letters("score"), shard, letters)
        num_filed += len(letters)
    for model, why in first.items():
        counted = outcomes[model]
        if not counted["scored"]:
            raise DataError(
                f"The {model} can read none of {counted[UNREADABLE]} responses. The first: {why}"
            )
        console.print(
            f"The {model} cannot read {counted[UNREADABLE]:,} of {counted.total():,} responses: "
            f"they have no reward. The first: {why}",
            style="yellow",
            markup=False,
        )
    return num_filed


def _verdicts(
    teachers: Sequence[TeacherConfig],
    student: str | None,
    parts: Sequence[QualityPartConfig],
    run: RunLayout,
    shard: str,
) -> Iterator[tuple[str, Verdict]]:
    """Every model's rows of a shard, behind the words that messages call the model by.

    Args:
        student: its name where it scores responses.
    """
    asked = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
    for teacher in teachers:
        responses = existing(run.responses(teacher), shard, RESPONSES)
        # Files may also hold prompts that another split had put into this shard.
        responses = selection.among(responses, "prompt_id", asked)
        for model, folder, schema in _signals(student, parts, run, teacher):
            table = scores_of(folder, shard, schema, responses)
            for row in table.select(list(Verdict.__annotations__)).to_pylist():
                yield model, row


def _signals(
    student: str | None,
    parts: Sequence[QualityPartConfig],
    run: RunLayout,
    teacher: TeacherConfig,
) -> Iterator[tuple[str, Folder, pa.Schema]]:
    if student is not None:
        yield f"student {student!r}", run.learnability(teacher), LEARNABILITY
    for part in parts:
        if isinstance(part.quality, RewardModelConfig):
            model = f"reward model {part.quality.model.name!r}"
            yield model, run.quality(teacher, part), QUALITY


def _letter(model: str, row: Verdict) -> Letter:
    return {
        "step": "score",
        "prompt_id": row["prompt_id"],
        "teacher": row["teacher"],
        "reason": "unreadable_response",
        "detail": f"{model}: {row['detail']}",
    }


def _replace(folder: Folder, shard: str, letters: list[Letter]) -> None:
    if letters:
        folder.write_table(shard, pa.Table.from_pylist(letters, schema=DEAD_LETTERS))
    else:
        folder.remove(shard)
