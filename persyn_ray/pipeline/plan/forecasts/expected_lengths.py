"""Expected lengths of responses that are still open: a run and its open rows in, their order out.

What a teacher has written to the parallel set says how long it will write for a task and a length
of prompt; `scheduling/row_order.py` makes an order of it. Before anything is written only prompts
that begin alike are put together. A teacher with a budget is asked as rows lie: what is left when
it is used up must not be chosen by its length.

Order gains little (benchmarks/streaming.py, part order: some percent of the time where engines have
four rows a slot), because the longest responses are the hardest to foretell; it costs next to
nothing, and prompts that begin alike stay together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from persyn_ray.data import selection
from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.pipeline.choices import has_own_pool
from persyn_ray.pipeline.plan.forecasts.expected_tokens import WRITTEN
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.scheduling.row_order import NONE, LengthModel, fit_lengths, stretches
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import RESPONSES

pc: Any = compute  # its functions are made at import, where a type checker does not see them
MOST_ROWS = 65_536
"""Rows of a teacher that are put into order; the tail of more is no part worth naming."""
BEGINNING = 1024
"""Bytes that prompts have in common if they begin alike: some 250 tokens."""
Stretches = list[tuple[str, list[int]]]
"""Places of rows in the order in which they are asked for, each with the name of its shard."""


@dataclass(frozen=True)
class PromptFacts:
    """What of a shard's prompts an order goes by, row by row."""

    ids: pa.Array
    tasks_N: Integers
    sizes_N: Floats
    beginnings_N: Integers
    """Equal where prompts begin alike; NONE where they are short."""


class RowOrder:
    """Puts open rows of teachers into order; reads each shard of prompts once."""

    def __init__(self, run: RunLayout) -> None:
        self.run = run
        self._facts: dict[str, PromptFacts] = {}
        self._tasks: dict[str | None, int] = {}

    def __call__(self, teacher: TeacherConfig, rows: Mapping[str, Sequence[int]]) -> Stretches:
        """The order for one teacher."""
        if not _has_order(teacher, rows):
            return [(shard, list(places)) for shard, places in rows.items()]
        model = self._model(teacher)
        expected: dict[str, Floats] = {}
        beginnings: dict[str, Integers] = {}
        for shard, places in rows.items():
            facts = self._facts_of(shard)
            expected[shard] = np.zeros(len(places))
            if model is not None:
                # Tasks that no parallel prompt has come behind those of the model.
                tasks_N = np.minimum(facts.tasks_N[places], len(model.of_task_K) - 1)
                expected[shard] = model.expected(tasks_N, facts.sizes_N[places])
            beginnings[shard] = facts.beginnings_N[places]
        return list(stretches(rows, expected, beginnings))

    def _model(self, teacher: TeacherConfig) -> LengthModel | None:
        """What is expected of a teacher, by its responses to the parallel set."""
        folder, columns = self.run.responses(teacher), ["prompt_id", "finish_reason", "num_tokens"]
        known = [np.empty((3, 0))]
        for shard in shards_of(self.run, "parallel"):
            said = existing(folder, shard, RESPONSES, columns)
            said = selection.among(said, "finish_reason", WRITTEN)
            if not said.num_rows:
                continue
            facts = self._facts_of(shard)
            said = selection.among(said, "prompt_id", facts.ids)
            places_N = pc.index_in(said["prompt_id"], value_set=facts.ids).to_numpy()
            counts_N, tasks_N = said["num_tokens"].to_numpy(), facts.tasks_N[places_N]
            columns_3N = np.array([counts_N, tasks_N, facts.sizes_N[places_N]], np.float64)
            known.append(columns_3N)
        tokens_N, tasks_N, sizes_N = np.concatenate(known, axis=1)
        # One more than there are: nothing is written to it, so the mean of all is expected.
        tasks_N = tasks_N.astype(np.int64)
        return fit_lengths(tokens_N, tasks_N, sizes_N, int(tasks_N.max(initial=-1)) + 2)

    def _facts_of(self, shard: str) -> PromptFacts:
        if shard not in self._facts:
            table = self.run.prompts.read_table(shard, ["prompt_id", "task", "messages"])
            texts = _texts(table)
            tasks = table["task"].combine_chunks().dictionary_encode(null_encoding="encode")
            numbers = np.array(
                [self._number(name) for name in tasks.dictionary.to_pylist()], np.int64
            )
            self._facts[shard] = PromptFacts(
                table["prompt_id"].combine_chunks(),
                numbers[tasks.indices.to_numpy()],
                pc.binary_length(texts).to_numpy().astype(np.float64),
                _beginnings(texts),
            )
        return self._facts[shard]

    def _number(self, task: str | None) -> int:
        return self._tasks.setdefault(task, len(self._tasks))


def _has_order(teacher: TeacherConfig, rows: Mapping[str, Sequence[int]]) -> bool:
    """Whether the order of a teacher's rows is ours to choose, and worth it."""
    number = sum(len(places) for places in rows.values())
    return has_own_pool(teacher) and teacher.budget is None and 0 < number <= MOST_ROWS


def _texts(table: pa.Table) -> pa.Array:
    """The conversations of a PROMPTS table as one text each, in bytes."""
    messages = table["messages"].combine_chunks()
    contents = pc.struct_field(messages.flatten(), "content")
    lists = pa.ListArray.from_arrays(_offsets(messages), contents)
    return pc.binary_join(lists, "\n").cast(pa.binary())


def _offsets(lists: pa.Array) -> pa.Array:
    """Where each list begins among all elements, and the end of the last."""
    ends = np.cumsum(pc.list_value_length(lists).to_numpy())
    return pa.array(np.concatenate([[0], ends]), pa.int32())


def _beginnings(texts: pa.Array) -> Integers:
    """A number for what each text begins with; NONE where it is short."""
    begun = pc.binary_slice(texts, 0, BEGINNING)
    numbers_N = begun.dictionary_encode().indices.to_numpy().astype(np.int64)
    return np.where(pc.binary_length(begun).to_numpy() == BEGINNING, numbers_N, NONE)
