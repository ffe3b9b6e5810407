"""Index of a run's prompts: tables as they grow in, narrow columns of all prompts out.

Texts are never held: a million prompts with ten teachers take about 150 MB. A pass reads what is
new: first ids, then assignment, novelty and rewards by shard, then how responses ended by part
file. Parts never change and shards are read again only when their step was done anew, so a pass
over a run that stands still reads no table.

Axes: P prompts in the order of the run, M teachers, S splits.
"""

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from persyn_ray.errors import DamagedError
from persyn_ray.recipe.scoring import CHECK_KINDS, SeveralConfig
from persyn_ray.shards.part_files import FAILED, Part, parts_in, shard_number
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN
from persyn_ray.view.narrow import Codes, agreement_of_signals, matrix_of, positions, sort_keys
from persyn_ray.view.snapshot import Snapshot

pc: Any = compute  # its functions are made at import, where a type checker does not see them
WHOLE, CUT, LOOP, FAILURE = 1, 2, 3, 4
"""How a response ended; 0 where there is none."""
SPLITS = ("parallel", "routed", "heldout")
COUNTED = ("num_prompt_tokens", "num_tokens")


class Index:
    """Columns of all prompts of one sharding; a pass fills them while others read."""

    def __init__(self, seen: Snapshot) -> None:
        assert seen.prompts is not None, "step prompts comes first"
        self.names = seen.recipe.pool.names
        self.sharding = seen.prompts.sharding
        self.shards = [
            (shard, split) for split in SPLITS for shard in seen.prompts.shards.get(split, [])
        ]
        num_prompts = sum(seen.prompts.splits.values())
        shape = (num_prompts, len(self.names))
        self.ids: list[pa.Array] = []
        """Of the shards that are read so far."""
        self.starts = [0]
        """Where each shard begins in the order of the run, and where the last read one ends."""
        self.tasks, self.sources = Codes(), Codes()
        self.task_P, self.source_P = (np.full(num_prompts, -1, np.int32) for _ in range(2))
        self.split_P = np.zeros(num_prompts, np.int8)
        self.teacher_P = np.full(num_prompts, -1, np.int16)
        self.margin_P, self.novelty_P, self.best_P, self.spread_P = (
            np.full(num_prompts, np.nan, np.float32) for _ in range(4)
        )
        self.is_novel_P, self.all_wrong_P, self.disagrees_P = (
            np.zeros(num_prompts, np.bool_) for _ in range(3)
        )
        self.key_P = np.zeros(num_prompts, "S24")
        self.ending_PM, self.tokens_PM = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
        self.paid_SM2 = np.zeros((len(SPLITS), len(self.names), 2), np.int64)
        """Prompt and response tokens of what did not fail, by split and teacher."""
        self.lock = threading.Lock()
        self.version = 0
        """Grows with every change."""
        self.has_shards = self.has_responses = self.is_complete = False
        """Whether what was there at a pass is read: tables by shard, responses, everything."""
        self._num_filled = 0
        self._filled: dict[str, dict[str, str]] = {}
        self._parts: set[tuple[int, str]] = set()
        self._num_keyed = 0

    @property
    def num_read(self) -> int:
        """Prompts whose ids are read, from the first on."""
        return self.starts[len(self.ids)]

    def update(self, seen: Snapshot) -> None:
        """One pass: read what is new since the last."""
        tables = self._new_tables(seen)
        for number in range(len(self.ids), len(self.shards)):
            self._read_prompts(seen, number)
            if number == 0:  # the first page need not wait for the others
                self._read_shard(seen, tables, 0)
                self._num_filled = 1
        for number in range(len(self.shards)):
            self._read_shard(seen, tables, number)
            self._num_filled = max(self._num_filled, number + 1)
        self.has_shards = True
        self._read_parts(seen)
        self.has_responses = True
        for number in range(self._num_keyed, len(self.shards)):
            self._read_keys(seen, number)
        self.is_complete = True
        pa.default_memory_pool().release_unused()

    def is_filled(self, last: int) -> bool:
        """Whether assignment, novelty and rewards of the first `last` prompts are read."""
        return self.starts[self._num_filled] >= min(last, len(self.task_P))

    def place_of(self, prompt_id: str) -> int | None:
        """The place of a prompt in the order of the run, or None."""
        for number, ids in enumerate(self.ids):
            at = pc.index(ids, prompt_id).as_py()
            if at >= 0:
                return self.starts[number] + at
        return None

    def shard_of(self, place: int) -> tuple[str, str]:
        """The shard at a place, and the prompt's id."""
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.shards[number][0], self.ids[number][place - self.starts[number]].as_py()

    def _read_prompts(self, seen: Snapshot, number: int) -> None:
        shard, split = self.shards[number]
        with seen.run.prompts.parquet(shard) as file:
            table = file.read(["prompt_id", "task", "source"])
        with self.lock:
            begin = self.starts[number]
            rows = slice(begin, begin + table.num_rows)
            self.task_P[rows] = self.tasks.of(table["task"])
            self.source_P[rows] = self.sources.of(table["source"])
            self.split_P[rows] = SPLITS.index(split)
            self.starts.append(begin + table.num_rows)  # first: who reads counts the ids
            self.ids.append(table["prompt_id"].combine_chunks())
            self.version += 1

    def _new_tables(self, seen: Snapshot) -> dict[str, tuple[Folder, str, set[str]]]:
        """Folder, stamp and files of each table by shard."""
        run = seen.run
        tables = {
            "assignment": (run.assignment(PERSYN), seen.stamp("route", "synthesize")),
            "novelty": (run.novelty, seen.stamp("route")),
            "rewards": (run.rewards, seen.stamp("rewards")),
        }
        return {
            name: (folder, stamp, set(folder.names(".parquet")))
            for name, (folder, stamp) in tables.items()
        }

    def _read_shard(
        self, seen: Snapshot, tables: dict[str, tuple[Folder, str, set[str]]], number: int
    ) -> None:
        """Those tables of a shard that are new, or whose step was done anew."""
        shard = self.shards[number][0]
        for name, (folder, stamp, there) in tables.items():
            filled = self._filled.setdefault(name, {})
            if shard not in there or filled.get(shard) == stamp:
                continue
            try:
                with folder.parquet(shard) as file:
                    table = file.read()
            except (DamagedError, FileNotFoundError):
                continue
            filled[shard] = stamp
            places_N = positions(table["prompt_id"], self.ids[number])
            with self.lock:
                start, end = self.starts[number], self.starts[number + 1]
                self._fill(seen, name, table, places_N, slice(start, end))
                self.version += 1

    def _fill(self, seen: Snapshot, name: str, table: pa.Table, places_N: Any, rows: slice) -> None:
        known_N = places_N >= 0
        at_N = rows.start + places_N[known_N]
        if name == "assignment":
            chosen_N = positions(table["teacher"], pa.array(self.names, pa.string()))
            self.teacher_P[rows], self.margin_P[rows] = -1, np.nan
            self.teacher_P[at_N] = chosen_N[known_N]
            self.margin_P[at_N] = table["margin"].to_numpy()[known_N]
        elif name == "novelty":
            self.novelty_P[at_N] = table["distance"].to_numpy()[known_N]
            self.is_novel_P[at_N] = table["is_novel"].to_numpy()[known_N]
        else:
            names = ("rewards", "quality", "learnability")
            signals = agreement_of_signals(
                *(matrix_of(table, one, len(self.names))[known_N] for one in names)
            )
            self.best_P[at_N], self.spread_P[at_N] = signals.best_P, signals.spread_P
            self.disagrees_P[at_N] = signals.disagrees_P
            self.all_wrong_P[at_N] = signals.all_wrong_P & is_checked(seen)

    def _read_parts(self, seen: Snapshot) -> None:
        """How responses ended, from those part files that are new."""
        numbers = [shard_number(shard) for shard, _ in self.shards]
        for m, teacher in enumerate(seen.recipe.teachers):
            folder = seen.run.responses(teacher)
            for part in parts_in(folder):
                if (m, part.name) not in self._parts:
                    self._read_part(m, folder, part, numbers)

    def _read_part(self, m: int, folder: Folder, part: Part, numbers: list[int]) -> None:
        within = [at for at, number in enumerate(numbers) if part.first <= number <= part.last]
        try:
            with folder.parquet(part.name) as file:
                table = file.read(["prompt_id", "finish_reason", *COUNTED])
        except (DamagedError, FileNotFoundError):
            return
        self._parts.add((m, part.name))
        ending_N = np.full(table.num_rows, WHOLE, np.uint8)
        for code, reasons in ((CUT, ["length"]), (LOOP, ["loop"]), (FAILURE, list(FAILED))):
            is_so = pc.is_in(table["finish_reason"], value_set=pa.array(reasons))
            ending_N[is_so.to_numpy()] = code
        prompt_tokens_N, tokens_N = (table[name].to_numpy() for name in COUNTED)
        for at in within:
            places_N = positions(table["prompt_id"], self.ids[at])
            here_N = np.flatnonzero(places_N >= 0)
            rows_N = self.starts[at] + places_N[here_N]
            with self.lock:  # the first that is no failure counts, as for every reader
                is_open_N = np.isin(self.ending_PM[rows_N, m], (0, FAILURE))
                rows_N, here_N = rows_N[is_open_N], here_N[is_open_N]
                self.ending_PM[rows_N, m] = ending_N[here_N]
                self.tokens_PM[rows_N, m] = tokens_N[here_N]
                paid_N = here_N[ending_N[here_N] != FAILURE]
                self.paid_SM2[SPLITS.index(self.shards[at][1]), m] += (
                    prompt_tokens_N[paid_N].sum(),
                    tokens_N[paid_N].sum(),
                )
                self.version += 1

    def _read_keys(self, seen: Snapshot, number: int) -> None:
        """What prompts are ordered by when they are ordered by their text."""
        with seen.run.prompts.parquet(self.shards[number][0]) as file:
            at = self.starts[number]
            for batch in file.iter_batches(2048, columns=["messages"]):
                keys = sort_keys(batch["messages"])
                self.key_P[at : at + len(keys)] = keys
                at += len(keys)
        self._num_keyed = number + 1
        with self.lock:
            self.version += 1


def is_checked(seen: Snapshot) -> bool:
    """Whether quality says right or wrong, so that all can be wrong."""
    quality = seen.recipe.scoring.quality
    if isinstance(quality, SeveralConfig):
        return all(part.quality.kind in CHECK_KINDS for part in quality.parts)
    return quality.kind in CHECK_KINDS
