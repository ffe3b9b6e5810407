"""Dead letters for responses that a chat template cannot carry, with reasons.

They are derived from the stored signals, so that they are there whoever scored the rows, and when.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from persyn_ray.data import selection
from persyn_ray.errors import DataError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import RewardModelConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import existing, scores_of
from persyn_ray.stages.quality import UNREADABLE
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.schemas import DEAD_LETTERS, LEARNABILITY, QUALITY, RESPONSES


def file_unreadable(
    recipe: Recipe, run: RunLayout, shards: Sequence[str], console: Console
) -> dict[str, int]:
    """Write dead letters for those in some shards, and say how many there are; returns their count.

    Raises:
        DataError: a model can read not a single response: then its template is at fault.
    """
    num_filed = 0
    outcomes: dict[str, Counter[str]] = {}
    first: dict[str, str] = {}
    for shard in shards:
        letters: list[dict[str, Any]] = []
        for model, row in _verdicts(recipe, run, shard):
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
    return {"unreadable": num_filed} if num_filed else {}


def _verdicts(recipe: Recipe, run: RunLayout, shard: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every model's rows of a shard, behind the words that messages call the model by."""
    asked = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
    for teacher in recipe.teachers:
        responses = existing(run.responses(teacher), shard, RESPONSES)
        # Files may also hold prompts that another split had put into this shard.
        responses = selection.among(responses, "prompt_id", asked)
        for model, folder, schema in _signals(recipe, run, teacher):
            table = scores_of(folder, shard, schema, responses)
            yield from ((model, row) for row in table.to_pylist())


def _signals(
    recipe: Recipe, run: RunLayout, teacher: TeacherConfig
) -> Iterator[tuple[str, Folder, pa.Schema]]:
    if recipe.measures_learnability:
        model = f"student {recipe.student.name!r}"
        yield model, run.learnability(teacher), LEARNABILITY
    for part in parts_of(recipe.scoring):
        if isinstance(part.quality, RewardModelConfig):
            model = f"reward model {part.quality.model.name!r}"
            yield model, run.quality(teacher, part), QUALITY


def _letter(model: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": "score",
        "prompt_id": row["prompt_id"],
        "teacher": row["teacher"],
        "reason": "unreadable_response",
        "detail": f"{model}: {row['detail']}",
    }


def _replace(folder: Folder, shard: str, letters: list[dict[str, Any]]) -> None:
    if letters:
        folder.write_table(shard, pa.Table.from_pylist(letters, schema=DEAD_LETTERS))
    else:
        folder.remove(shard)
