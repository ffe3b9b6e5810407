"""Reshaping between tables and arrays: shards to matrices in pool order, assignments to examples.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.config import Recipe
from persyn_ray.layout import Run, run_of
from persyn_ray.method.rewards import combine
from persyn_ray.records import read_record
from persyn_ray.schemas import EXAMPLES, LEARNABILITY, QUALITY, RESPONSES, conform, rewards_schema
from persyn_ray.stages.work import existing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rewards:
    """Signals and rewards of some prompts, in pool order; NaN where unknown."""

    prompt_ids: tuple[str, ...]
    learnability_PM: Floats
    quality_PM: Floats
    rewards_PM: Floats


def shards_of(run: Run, *splits: str) -> list[str]:
    """Names of the shards of these splits, from the record of step prompts."""
    record = read_record(run.records, "prompts")
    assert record is not None, "step prompts comes first"
    return [shard for split in splits for shard in record.counts["shards"].get(split, [])]


def column_PM(table: pa.Table, name: str) -> Floats:
    """A column of lists as a matrix; nulls become NaN."""
    rows = table[name].to_pylist()
    width = table.schema.field(name).type.list_size
    values = [[np.nan if value is None else value for value in row] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), width)


def by_teacher_PM(tables: Sequence[pa.Table], prompt_ids: Sequence[str], column: str) -> Floats:
    """One table per teacher, in pool order, to a matrix matched by `prompt_id`; absent is NaN."""
    place = {prompt_id: row for row, prompt_id in enumerate(prompt_ids)}
    values_PM = np.full((len(prompt_ids), len(tables)), np.nan)
    for m, table in enumerate(tables):
        for prompt_id, value in zip(
            table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True
        ):
            if value is not None and prompt_id in place:
                values_PM[place[prompt_id], m] = value
    return values_PM


def shard_rewards(recipe: Recipe, shard: str) -> pa.Table:
    """REWARDS of one shard: the stored signals, put on one scale and mixed with alpha (Eq. 2)."""
    run = run_of(recipe)
    prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()
    learnability_PM = by_teacher_PM(
        [existing(run.learnability(recipe, t), shard, LEARNABILITY) for t in recipe.teachers],
        prompt_ids,
        "learnability",
    )
    quality_PM = by_teacher_PM(
        [existing(run.quality(recipe, t), shard, QUALITY) for t in recipe.teachers],
        prompt_ids,
        "quality",
    )
    scoring = recipe.scoring
    rewards_PM = combine(quality_PM, learnability_PM, scoring.alpha, scoring.scaling)
    schema = rewards_schema(recipe.pool.names)
    columns: dict[str, Any] = {"prompt_id": prompt_ids}
    for name, values_PM in (
        ("learnability", learnability_PM),
        ("quality", quality_PM),
        ("rewards", rewards_PM),
    ):
        columns[name] = [
            [None if np.isnan(value) else float(value) for value in row] for row in values_PM
        ]
    return conform(pa.table(columns, schema=schema), schema, f"rewards of {shard}")


def load_rewards(run: Run, shards: Sequence[str], num_teachers: int) -> Rewards:
    """The rewards of some shards as arrays, in the shards' order."""
    tables = [run.rewards.read_table(shard) for shard in shards]
    ids = [prompt_id for table in tables for prompt_id in table["prompt_id"].to_pylist()]
    empty = np.empty((0, num_teachers))
    parts = {
        name: np.concatenate([empty, *(column_PM(table, name) for table in tables)])
        for name in ("learnability", "quality", "rewards")
    }
    return Rewards(tuple(ids), parts["learnability"], parts["quality"], parts["rewards"])


def heldout_mask(prompt_ids: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which prompts of the parallel set the router is not fitted on: by a hash, not by order."""
    draws = [
        int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big")
        for name in prompt_ids
    ]
    heldout_P = np.array(draws, dtype=np.float64) / 2.0**64 < fraction
    if len(prompt_ids) > 1 and (heldout_P.all() or not heldout_P.any()):
        heldout_P[int(np.argmin(draws))] = True  # a tiny parallel set still needs both parts
        heldout_P[int(np.argmax(draws))] = False
    return heldout_P


@dataclass(frozen=True)
class ExampleCounts:
    """What became of a shard's assigned prompts."""

    kept: int = 0
    without_response: int = 0
    truncated: int = 0


def examples_of(recipe: Recipe, method: str, shard: str) -> tuple[pa.Table, ExampleCounts]:
    """EXAMPLES of one shard: each prompt with the response of the teacher it was assigned to."""
    run = run_of(recipe)
    prompts = {row["prompt_id"]: row for row in run.prompts.read_table(shard).to_pylist()}
    responses = {
        (row["prompt_id"], row["teacher"]): row
        for teacher in recipe.teachers
        for row in existing(run.responses(teacher), shard, RESPONSES).to_pylist()
    }
    rows: list[dict[str, Any]] = []
    missing = truncated = 0
    for assigned in run.assignment(method).read_table(shard).to_pylist():
        prompt_id, teacher = assigned["prompt_id"], assigned["teacher"]
        response = responses.get((prompt_id, teacher), {"response": None})
        if not response["response"]:
            missing += 1
        elif response["finish_reason"] == "length" and not recipe.finetune.keep_truncated:
            truncated += 1
        else:
            answer = {"role": "assistant", "content": response["response"]}
            messages = [*prompts[prompt_id]["messages"], answer]
            rows.append({"prompt_id": prompt_id, "teacher": teacher, "messages": messages})
    table = conform(pa.Table.from_pylist(rows, schema=EXAMPLES), EXAMPLES, f"examples of {shard}")
    return table, ExampleCounts(len(rows), missing, truncated)
