"""Reshaping between tables and arrays: shards to matrices in pool order, assignments to examples.

Here it is decided which responses count. Complete is what its teacher ended by itself and leaves
the student something to read. A response that was cut is no example and has no reward unless the
recipe keeps such ones (`responses.incomplete: keep`); one that goes round in circles never is and
never has. Its reward is unknown rather than low: it then takes part in no pair, and a cut answer
cannot win one as if it were complete. What a teacher that is often cut is worth is so measured on
the prompts where it was not; the report counts the others.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.data.response_text import student_text
from persyn_ray.data.selection import seeded_draw
from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method.learnability import as_learnability
from persyn_ray.method.quality import weighted_quality
from persyn_ray.method.rewards import alpha_by_difficulty, combine
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import QualityPartConfig
from persyn_ray.shards.response_store import existing, scores_of
from persyn_ray.storage.layout import RunLayout, parts_of, run_of
from persyn_ray.storage.results import PromptsResult, read_result
from persyn_ray.storage.schemas import (
    EXAMPLES,
    LEARNABILITY,
    QUALITY,
    RESPONSES,
    conform,
    rewards_schema,
)

CHECK_NEEDED = "Use a check as scoring.quality, or remove scoring.alpha_by_difficulty."
Floats = NDArray[np.float64]
Row = dict[str, Any]
Outcome = Literal["complete", "truncated", "looped", "absent", "unasked"]
"""What a response is worth to the student; `unasked` is one that its teacher may still give."""


@dataclass(frozen=True)
class Rewards:
    """Signals and rewards of some prompts, in pool order; NaN where unknown."""

    prompt_ids: tuple[str, ...]
    learnability_PM: Floats
    quality_PM: Floats
    rewards_PM: Floats


def shards_of(run: RunLayout, *splits: str) -> list[str]:
    """Names of the shards of these splits, from the record of step prompts."""
    prompts = read_result(run.records, PromptsResult)
    assert prompts is not None, "step prompts comes first"
    return [shard for split in splits for shard in prompts.shards.get(split, [])]


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


def outcome_of(response: Row | None, section: ResponsesConfig) -> Outcome:
    """What became of a response, by a row of RESPONSES; cut ones are complete where they are kept.

    A teacher that could not be reached has not been asked.
    """
    if response is None or response["finish_reason"] == "unavailable":
        return "unasked"
    if response["finish_reason"] == "loop":
        return "looped"
    if response["finish_reason"] == "length" and section.incomplete != "keep":
        return "truncated"
    return "complete" if student_text(response["response"], section) else "absent"


def outcomes_PM(recipe: Recipe, shard: str, prompt_ids: Sequence[str]) -> NDArray[np.str_]:
    """The outcome of every stored response to some prompts of a shard, in pool order."""
    run = run_of(recipe)
    said = [existing(run.responses(teacher), shard, RESPONSES) for teacher in recipe.teachers]
    return _outcomes_PM(recipe, said, prompt_ids)


def _outcomes_PM(
    recipe: Recipe, said: Sequence[pa.Table], prompt_ids: Sequence[str]
) -> NDArray[np.str_]:
    columns = [
        {row["prompt_id"]: outcome_of(row, recipe.responses) for row in of.to_pylist()}
        for of in said
    ]
    values = [[of.get(prompt_id, "unasked") for of in columns] for prompt_id in prompt_ids]
    return np.array(values, dtype=np.str_).reshape(len(prompt_ids), len(columns))


def shard_rewards(recipe: Recipe, shard: str) -> pa.Table:
    """REWARDS of one shard: the stored signals, put on one scale and mixed with alpha (Eq. 2).

    Signals of incomplete responses are left out, see above.
    """
    run = run_of(recipe)
    prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()
    scoring, parts = recipe.scoring, parts_of(recipe)
    said = [existing(run.responses(t), shard, RESPONSES) for t in recipe.teachers]
    measured = [
        scores_of(run.learnability(recipe, t), shard, LEARNABILITY, of)
        for t, of in zip(recipe.teachers, said, strict=True)
    ]
    measures_PM = by_teacher_PM(measured, prompt_ids, scoring.learnability)
    learnability_PM = as_learnability(measures_PM, scoring.learnability)
    parts_KPM = np.stack([_quality_PM(recipe, part, shard, said, prompt_ids) for part in parts])
    outcomes = _outcomes_PM(recipe, said, prompt_ids)
    is_incomplete_PM = np.isin(outcomes, ("truncated", "looped", "absent"))
    learnability_PM[is_incomplete_PM] = parts_KPM[:, is_incomplete_PM] = np.nan
    with advising("See scoring.quality.parts and scoring.scaling.", ConfigError):
        quality_PM = weighted_quality(parts_KPM, [part.weight for part in parts], scoring.scaling)
    rewards_PM = rewards_of(recipe, quality_PM, learnability_PM)
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


def rewards_of(recipe: Recipe, quality_PM: Floats, learnability_PM: Floats) -> Floats:
    """The rewards of Eq. 2 by the recipe's alpha and scaling."""
    rule, scaling = recipe.scoring.alpha_by_difficulty, recipe.scoring.scaling
    alpha = recipe.scoring.alpha
    if rule is not None:
        with advising(CHECK_NEEDED, DataError):
            alpha = alpha_by_difficulty(quality_PM, rule.hard, rule.easy)
    with advising("See scoring.alpha and scoring.scaling.", ConfigError):
        return combine(quality_PM, learnability_PM, alpha, scaling)


def _quality_PM(
    recipe: Recipe,
    part: QualityPartConfig,
    shard: str,
    said: Sequence[pa.Table],
    prompt_ids: Sequence[str],
) -> Floats:
    """One stored quality of a shard, raw; `said`: each teacher's responses."""
    run = run_of(recipe)
    tables = [
        scores_of(run.quality(recipe, t, part), shard, QUALITY, of)
        for t, of in zip(recipe.teachers, said, strict=True)
    ]
    return by_teacher_PM(tables, prompt_ids, "quality")


def load_rewards(run: RunLayout, shards: Sequence[str], num_teachers: int) -> Rewards:
    """The rewards of some shards as arrays, in the shards' order."""
    tables = [run.rewards.read_table(shard) for shard in shards]
    ids = [prompt_id for table in tables for prompt_id in table["prompt_id"].to_pylist()]
    empty = np.empty((0, num_teachers))
    parts = {
        name: np.concatenate([empty, *(column_PM(table, name) for table in tables)])
        for name in ("learnability", "quality", "rewards")
    }
    return Rewards(tuple(ids), parts["learnability"], parts["quality"], parts["rewards"])


def load_embeddings(run: RunLayout, shards: Sequence[str]) -> Floats | None:
    """The frozen backbone's embeddings of some shards' prompts, (P, D); None where none are."""
    if not shards or not all(run.embeddings.exists(shard) for shard in shards):
        return None
    tables = [run.embeddings.read_table(shard) for shard in shards]
    return np.concatenate([column_PM(table, "embedding") for table in tables])


def heldout_mask(prompt_ids: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which prompts of the parallel set the router is not fitted on: by a hash, not by order."""
    draws = [seeded_draw(seed, name) for name in prompt_ids]
    heldout_P = np.array(draws, dtype=np.float64) / 2.0**64 < fraction
    if len(prompt_ids) > 1 and (heldout_P.all() or not heldout_P.any()):
        heldout_P[int(np.argmin(draws))] = True  # a tiny parallel set still needs both parts
        heldout_P[int(np.argmax(draws))] = False
    return heldout_P


@dataclass(frozen=True)
class ExampleCounts:
    """What became of a shard's prompts; the first five add up to them."""

    kept: int = 0
    without_response: int = 0
    truncated: int = 0
    looped: int = 0
    without_teacher: int = 0
    kept_truncated: int = 0
    """Those among the kept that were cut by the token limit."""

    def __add__(self, other: "ExampleCounts") -> "ExampleCounts":
        return ExampleCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def examples_of(recipe: Recipe, method: str, shard: str) -> tuple[pa.Table, ExampleCounts]:
    """EXAMPLES of one shard: each prompt with the response of the teacher it was assigned to."""
    run = run_of(recipe)
    prompts = {row["prompt_id"]: row for row in run.prompts.read_table(shard).to_pylist()}
    responses = {
        (row["prompt_id"], row["teacher"]): row
        for teacher in recipe.teachers
        for row in existing(run.responses(teacher), shard, RESPONSES).to_pylist()
    }
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    num_cut = 0
    for assigned in run.assignment(method).read_table(shard).to_pylist():
        prompt_id, teacher = assigned["prompt_id"], assigned["teacher"]
        response = responses.get((prompt_id, teacher))
        outcomes.append(outcome_of(response, recipe.responses))
        if response is None or outcomes[-1] != "complete":
            continue
        num_cut += response["finish_reason"] == "length"
        seen = student_text(response["response"], recipe.responses)
        answer = {"role": "assistant", "content": seen}
        messages = [*prompts[prompt_id]["messages"], answer]
        rows.append({"prompt_id": prompt_id, "teacher": teacher, "messages": messages})
    table = conform(pa.Table.from_pylist(rows, schema=EXAMPLES), EXAMPLES, f"examples of {shard}")
    counts = ExampleCounts(
        kept=len(rows),
        without_response=outcomes.count("absent") + outcomes.count("unasked"),
        truncated=outcomes.count("truncated"),
        looped=outcomes.count("looped"),
        without_teacher=len(prompts) - len(outcomes),
        kept_truncated=num_cut,
    )
    return table, counts
