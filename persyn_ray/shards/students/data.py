"""What a student learns from: a run's tables and the recipe's `dataset` in, examples by shard out.

Its method assigns a teacher to each prompt; of the parallel set, where all teachers have answered,
the best response may be taken instead, or nothing. Left out are what a check finds wrong, what was
cut (if so asked) and what overlaps with the problems of evaluation. Other data sets come on top.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.data.extra_examples import read_extra
from persyn_ray.data.overlap import Problems, Shared
from persyn_ray.data.selection import seeded_draw
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.recipe.data import DatasetConfig, ExtraDataConfig, ResponsesConfig
from persyn_ray.recipe.scoring import QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import qualities_of, responses_of
from persyn_ray.shards.tables import ExampleCounts, column_PM, examples_of, shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.results import ExtraRows
from persyn_ray.storage.schemas import CONTAMINATED, EXAMPLES

PHRASE = 10
"""Words that more examples than this share are a phrase (as for GPT-3)."""


@dataclass(frozen=True)
class StudentData:
    """Settings of what students learn from."""

    teachers: tuple[TeacherConfig, ...]
    responses: ResponsesConfig
    section: DatasetConfig
    check: QualityPartConfig | None
    """Tells wrong responses, where they are dropped."""
    seed: int

    def examples(
        self, run: RunLayout, method: str, shard: str, is_parallel: bool
    ) -> tuple[pa.Table, ExampleCounts]:
        """EXAMPLES of one shard for a method's student, and what became of the prompts."""
        keep = self.section.parallel if is_parallel else "routed"
        if keep == "left_out":
            num = run.prompts.num_rows(shard)
            return EXAMPLES.empty_table(), ExampleCounts(left_out=num)
        assigned = run.assignment(method).read_table(shard)
        if keep == "best":
            assigned = self._best(run, shard, assigned)
        responses = self.responses
        if "cut" in self.section.drop and responses.incomplete == "keep":
            responses = responses.model_copy(update={"incomplete": "drop"})
        table, counts = examples_of(run, self.teachers, responses, method, shard, assigned)
        if "wrong" in self.section.drop:
            right = table.filter(self._is_not_wrong(run, shard, table))
            num_wrong = table.num_rows - right.num_rows
            counts = replace(counts, kept=right.num_rows, wrong=num_wrong)
            table = right
        return table, counts

    def _best(self, run: RunLayout, shard: str, assigned: pa.Table) -> pa.Table:
        """The teacher of the best reward for each prompt; the assigned one where none is known."""
        rewards = run.rewards.read_table(shard)
        ids, names = rewards["prompt_id"].to_pylist(), [one.name for one in self.teachers]
        best_P, _ = assign(column_PM(rewards, "rewards"), tie_breaks(ids, names, self.seed))
        keys = (assigned[name].to_pylist() for name in ("prompt_id", "teacher"))
        chosen = dict(zip(*keys, strict=True))
        chosen |= {one: names[m] for one, m in zip(ids, best_P.tolist(), strict=True) if m >= 0}
        return pa.table({"prompt_id": list(chosen), "teacher": list(chosen.values())})

    def _is_not_wrong(self, run: RunLayout, shard: str, table: pa.Table) -> pa.Array:
        """Which examples no check finds wrong; unknown verdicts do not."""
        assert self.check is not None, "the recipe refuses to drop what it cannot check"
        said = responses_of(run, self.teachers, shard)
        wrong = {
            (row["prompt_id"], row["teacher"])
            for of in qualities_of(run, self.teachers, self.check, shard, said)
            for row in of.to_pylist()
            if row["quality"] == 0
        }
        keys = (table[name].to_pylist() for name in ("prompt_id", "teacher"))
        return pa.array([key not in wrong for key in zip(*keys, strict=True)], pa.bool_())


def problems_of(run: RunLayout, num_words: int | None) -> Problems:
    """The problems that a run's students are evaluated on."""
    texts: dict[str, str] = {}
    for shard in shards_of(run, "heldout"):
        for row in run.prompts.read_table(shard, ["prompt_id", "messages"]).to_pylist():
            texts[row["prompt_id"]] = asked(row["messages"])
    return Problems(texts, num_words)


def asked(messages: Iterable[Mapping[str, str]]) -> str:
    """What the user says in a conversation."""
    return "\n".join(turn["content"] for turn in messages if turn["role"] == "user")


def contaminated(problems: Problems, tables: Iterable[pa.Table]) -> pa.Table:
    """CONTAMINATED rows of those EXAMPLES that overlap with problems, one for each example."""
    found: list[tuple[dict[str, Any], str, list[Shared]]] = []
    num_sharing: Counter[str] = Counter()
    for table in tables:
        for row in table.to_pylist():
            *prompt, response = row["messages"]
            whole = problems.is_whole(asked(prompt))
            in_prompt = [whole] if whole else problems.shared_with(asked(prompt))
            in_response = problems.shared_with(response["content"])
            num_sharing.update({one.words for one in (*in_prompt, *in_response)})
            for place, shared in (("prompt", in_prompt), ("response", in_response)):
                if shared:
                    found.append((row, place, shared))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row, place, shared in found:
        telling = [one for one in shared if one.is_whole or num_sharing[one.words] <= PHRASE]
        if telling:
            of = {name: row[name] for name in ("prompt_id", "teacher")}
            first = {"place": place, "problem_id": telling[0].problem, "words": telling[0].words}
            rows.setdefault((of["prompt_id"], of["teacher"]), of | first)
    return pa.Table.from_pylist(list(rows.values()), schema=CONTAMINATED)


def extra_examples(
    section: ExtraDataConfig, problems: Problems, known: Sequence[str], num_own: int, seed: int
) -> tuple[pa.Table, pa.Table, ExtraRows]:
    """EXAMPLES to take from a data set, its CONTAMINATED rows, and what became of the others.

    Args:
        known: ids of prompts that students learn from already.
        num_own: the student's own examples, which `ratio` goes by.

    Raises:
        ConfigError: a file or a column is not there.
        DataError: a file is damaged.
    """
    read = read_extra(section)
    new = selection.without(read.table, "prompt_id", pa.array(known, pa.string()))
    dirty = contaminated(problems, [new])
    clean = selection.without(new, "prompt_id", dirty["prompt_id"])
    wanted = section.rows or clean.num_rows
    if section.ratio is not None:
        wanted = round(section.ratio * num_own)
    keys = [seeded_draw(seed, f"{section.name}:{one}") for one in clean["prompt_id"].to_pylist()]
    drawn = np.sort(np.argsort(np.array(keys, dtype=np.uint64), kind="stable")[:wanted])
    table = clean.take(pa.array(drawn, pa.int64()))
    counts = ExtraRows(
        kept=table.num_rows,
        unreadable=read.num_unreadable,
        first_unreadable=read.first_unreadable,
        duplicates=read.num_duplicates + read.table.num_rows - new.num_rows,
        contaminated=dirty.num_rows,
        not_drawn=clean.num_rows - table.num_rows,
    )
    return table, dirty, counts
