"""Reshaping between tables and arrays: shards to matrices in pool order, assignments to examples.

Here it is decided which responses count. Complete is what its teacher ended by itself and leaves
the student something to read. A response that was cut is no example and has no reward unless the
recipe keeps such ones (`responses.incomplete: keep`); one that goes round in circles never is and
never has. Its reward is unknown rather than low: it then takes part in no pair, and a cut answer
cannot win one as if it were complete. What a teacher that is often cut is worth is so measured on
the prompts where it was not; the report counts the others.

Axes: P prompts, M teachers.
"""

import threading
from collections.abc import Callable, Sequence
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
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import measures_of, qualities_of, responses_of
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.results import PromptsResult, read_result
from persyn_ray.storage.schemas import EXAMPLES, conform, rewards_schema

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


class LastTables:
    """Reads tables by the name of their shard and keeps the last two; for use by many threads.

    Units come in the order of shards, so that a shard is read about once.
    """

    def __init__(self, read: Callable[[str], pa.Table]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._tables: dict[str, pa.Table] = {}

    def __call__(self, shard: str) -> pa.Table:
        with self._lock:
            if shard not in self._tables:
                for name in list(self._tables)[:-1]:
                    del self._tables[name]
                self._tables[shard] = self._read(shard)
            return self._tables[shard]


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


def outcomes_PM(
    said: Sequence[pa.Table], section: ResponsesConfig, prompt_ids: Sequence[str]
) -> NDArray[np.str_]:
    """The outcome of each teacher's response to some prompts; `said`: RESPONSES in pool order."""
    columns = [
        {row["prompt_id"]: outcome_of(row, section) for row in of.to_pylist()} for of in said
    ]
    values = [[of.get(prompt_id, "unasked") for of in columns] for prompt_id in prompt_ids]
    return np.array(values, dtype=np.str_).reshape(len(prompt_ids), len(columns))


@dataclass(frozen=True, eq=False)
class Signals:
    """Stored signals of some prompts as they were measured, in pool order; NaN where unknown."""

    prompt_ids: tuple[str, ...]
    learnability_PM: Floats
    """More is more learnable, whatever measure it comes from."""
    qualities_KPM: Floats
    """Each quality on its own scale."""


def read_signals(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    shard: str,
    scoring: ScoringConfig,
    section: ResponsesConfig,
) -> Signals:
    """The stored signals of one shard; those of incomplete responses are left out, see above."""
    ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()
    said = responses_of(run, teachers, shard)
    measures_PM = by_teacher_PM(measures_of(run, teachers, shard, said), ids, scoring.learnability)
    learnability_PM = as_learnability(measures_PM, scoring.learnability)
    qualities = [qualities_of(run, teachers, p, shard, said) for p in parts_of(scoring)]
    qualities_KPM = np.stack([by_teacher_PM(tables, ids, "quality") for tables in qualities])
    outcomes = outcomes_PM(said, section, ids)
    is_incomplete_PM = np.isin(outcomes, ("truncated", "looped", "absent"))
    learnability_PM[is_incomplete_PM] = qualities_KPM[:, is_incomplete_PM] = np.nan
    return Signals(tuple(ids), learnability_PM, qualities_KPM)


def mixed(signals: Signals, weights: Sequence[float], scoring: ScoringConfig) -> Rewards:
    """The qualities joined by their weights, and the rewards by alpha (Eq. 2)."""
    with advising("See scoring.quality.parts and scoring.scaling.", ConfigError):
        quality_PM = weighted_quality(signals.qualities_KPM, weights, scoring.scaling)
    rewards_PM = rewards_of(scoring, quality_PM, signals.learnability_PM)
    return Rewards(signals.prompt_ids, signals.learnability_PM, quality_PM, rewards_PM)


def rewards_of(scoring: ScoringConfig, quality_PM: Floats, learnability_PM: Floats) -> Floats:
    """The rewards of Eq. 2 by the recipe's alpha and scaling."""
    rule, alpha = scoring.alpha_by_difficulty, scoring.alpha
    if rule is not None:
        with advising(CHECK_NEEDED, DataError):
            alpha = alpha_by_difficulty(quality_PM, rule.hard, rule.easy)
    with advising("See scoring.alpha and scoring.scaling.", ConfigError):
        return combine(quality_PM, learnability_PM, alpha, scoring.scaling)


def rewards_table(rewards: Rewards, teachers: tuple[str, ...], what: str) -> pa.Table:
    """REWARDS of some prompts; unknown values are nulls. `what` names the table in an error."""
    schema = rewards_schema(teachers)
    columns: dict[str, Any] = {"prompt_id": rewards.prompt_ids}
    for name, values_PM in (
        ("learnability", rewards.learnability_PM),
        ("quality", rewards.quality_PM),
        ("rewards", rewards.rewards_PM),
    ):
        columns[name] = [
            [None if np.isnan(value) else float(value) for value in row] for row in values_PM
        ]
    return conform(pa.table(columns, schema=schema), schema, what)


def shard_rewards(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    shard: str,
    scoring: ScoringConfig,
    section: ResponsesConfig,
) -> pa.Table:
    """REWARDS of one shard: the stored signals, put on one scale and mixed with alpha."""
    signals = read_signals(run, teachers, shard, scoring, section)
    rewards = mixed(signals, [part.weight for part in parts_of(scoring)], scoring)
    names = tuple(teacher.name for teacher in teachers)
    return rewards_table(rewards, names, f"rewards of {shard}")


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
    """What became of a shard's prompts; all but `kept_truncated` add up to them."""

    kept: int = 0
    without_response: int = 0
    truncated: int = 0
    looped: int = 0
    without_teacher: int = 0
    kept_truncated: int = 0
    """Those among the kept that were cut by the token limit."""
    wrong: int = 0
    """Left out as a check finds them wrong."""
    contaminated: int = 0
    """Left out as they overlap with a problem of evaluation."""
    left_out: int = 0
    """Prompts of the parallel set that students do not learn from."""

    def __add__(self, other: "ExampleCounts") -> "ExampleCounts":
        return ExampleCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def examples_of(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    section: ResponsesConfig,
    method: str,
    shard: str,
    assigned: pa.Table | None = None,
) -> tuple[pa.Table, ExampleCounts]:
    """EXAMPLES of one shard: each prompt with the response of the teacher it was assigned to.

    Args:
        assigned: prompts and teachers in place of the method's own.
    """
    prompts = run.prompts.read_table(shard)
    assigned = run.assignment(method).read_table(shard) if assigned is None else assigned
    rows = _responses_to(assigned, pa.concat_tables(responses_of(run, teachers, shard)))
    return examples_table(prompts, rows, section, f"examples of {shard}")


def _responses_to(assigned: pa.Table, responses: pa.Table) -> list[Row | None]:
    """For each assigned prompt the row of its teacher's response, or None."""
    of = {(row["prompt_id"], row["teacher"]): row for row in responses.to_pylist()}
    pairs = zip(assigned["prompt_id"].to_pylist(), assigned["teacher"].to_pylist(), strict=True)
    return [of.get(pair) for pair in pairs]


def examples_table(
    prompts: pa.Table, responses: Sequence[Row | None], section: ResponsesConfig, what: str
) -> tuple[pa.Table, ExampleCounts]:
    """EXAMPLES of those responses that are complete, and what became of all prompts.

    Args:
        responses: the assigned teacher's, for each prompt that has one; None where it is not there.
        what: names the table in an error.
    """
    messages_of = dict(
        zip(prompts["prompt_id"].to_pylist(), prompts["messages"].to_pylist(), strict=True)
    )
    rows: list[Row] = []
    outcomes: list[Outcome] = [outcome_of(response, section) for response in responses]
    num_cut = 0
    for response, outcome in zip(responses, outcomes, strict=True):
        if response is None or outcome != "complete":
            continue
        num_cut += response["finish_reason"] == "length"
        answer = {"role": "assistant", "content": student_text(response["response"], section)}
        messages = [*messages_of[response["prompt_id"]], answer]
        of = {name: response[name] for name in ("prompt_id", "teacher")}
        rows.append(of | {"messages": messages})
    table = conform(pa.Table.from_pylist(rows, schema=EXAMPLES), EXAMPLES, what)
    counts = ExampleCounts(
        kept=len(rows),
        without_response=outcomes.count("absent") + outcomes.count("unasked"),
        truncated=outcomes.count("truncated"),
        looped=outcomes.count("looped"),
        without_teacher=prompts.num_rows - len(outcomes),
        kept_truncated=num_cut,
    )
    return table, counts
