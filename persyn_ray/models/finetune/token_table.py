"""Training examples as token ids in Arrow files that all workers of a machine map: 4 bytes a token.

A file is written once and read in place by every worker; nothing of it becomes a Python object but
the examples of the batch at hand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch.utils.data import Dataset

from persyn_ray.data.selection import seeded_draw
from persyn_ray.models.chat import Example
from persyn_ray.storage.schemas import TOKENS


class TokenTable(Dataset[Example]):
    """Examples by number; one number behind the last is a blank, a token that is no response.

    Args:
        table: of the schema TOKENS.
        pad_id: the token of the blank, which adds no loss.
        rows: those of the table that are meant, in this order; by default all.
    """

    def __init__(self, table: pa.Table, pad_id: int, rows: NDArray[np.int64] | None = None) -> None:
        self._table, self._pad_id, self._blank = table, pad_id, Example([pad_id], 1)
        self._rows = np.arange(table.num_rows) if rows is None else rows
        self._num_prompt: NDArray[np.int32] = table["num_prompt_tokens"].to_numpy()
        self.lengths: NDArray[np.int64] = _lengths(table["ids"])[self._rows]
        """Tokens of each example."""

    @classmethod
    def of(cls, examples: Mapping[str, Example], pad_id: int) -> "TokenTable":
        """A table in memory, by the examples' names."""
        rows = [
            {"prompt_id": name, "ids": one.ids, "num_prompt_tokens": one.num_prompt_tokens}
            for name, one in examples.items()
        ]
        return cls(pa.Table.from_pylist(rows, schema=TOKENS), pad_id)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Example:
        if number >= len(self):
            return self._blank
        row = int(self._rows[number])
        return Example(self._table["ids"][row].as_py(), int(self._num_prompt[row]))

    @property
    def num_prompt_tokens(self) -> NDArray[np.int32]:
        """Tokens of each example's prompt."""
        return self._num_prompt[self._rows]

    def name(self, number: int) -> str:
        """The id of an example's prompt."""
        return str(self._table["prompt_id"][int(self._rows[number])].as_py())

    def largest_token(self) -> tuple[str, int] | None:
        """The largest token id, and the prompt of an example that holds it; None without any."""
        largest, place, start = -1, 0, 0
        for chunk in self._table["ids"].chunks:
            ids = chunk.flatten().to_numpy()
            if ids.size and int(ids.max()) > largest:
                largest = int(ids.max())
                ends = np.cumsum(np.diff(chunk.offsets.to_numpy()))
                place = start + int(np.searchsorted(ends, int(ids.argmax()), side="right"))
            start += len(chunk)
        return None if largest < 0 else (str(self._table["prompt_id"][place].as_py()), largest)

    def parted(self, fraction: float, seed: int) -> tuple["TokenTable", "TokenTable"]:
        """The examples to learn from, and a share to measure the loss on, drawn by prompt."""
        ids = self._table["prompt_id"].take(pa.array(self._rows)).to_pylist()
        draws = np.array([seeded_draw(seed, name) for name in ids], dtype=np.float64)
        is_out = draws / 2.0**64 < fraction
        kept, out = self._rows[~is_out], self._rows[is_out]
        return (
            TokenTable(self._table, self._pad_id, kept),
            TokenTable(self._table, self._pad_id, out),
        )


def write_tokens(path: Path, table: pa.Table) -> None:
    """Write a table of the schema TOKENS so that it can be mapped."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, TOKENS) as writer:
        writer.write_table(table, max_chunksize=8192)


def map_tokens(paths: Sequence[Path]) -> pa.Table:
    """The tables in these files, mapped into memory and not read."""
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    return pa.concat_tables(tables)


def _lengths(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Lengths of the lists, from their offsets alone."""
    offsets = (chunk.offsets.to_numpy() for chunk in ids.chunks)
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.diff(one) for one in offsets)])
