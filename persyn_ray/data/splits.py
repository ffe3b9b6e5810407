"""Splits of prompts: a table of them and a seed in, the rows of each split in drawn order out.

The order is drawn by a hash of seed and prompt, so a split depends neither on the order of the rows
nor on the machine, and every stretch of a split is a fair mix. The table stays as it was read: a
million prompts are not held twice.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.data.selection import take_rows
from persyn_ray.errors import ConfigError
from persyn_ray.storage.schemas import PROMPTS, conform

Places = NDArray[np.int64]
SPLITS = ("parallel", "heldout", "routed")


@dataclass(frozen=True)
class SplitPrompts:
    """Prompts, and which rows of their table are in which split."""

    table: pa.Table
    """PROMPTS without `split`, in the order of the files."""
    places: dict[str, Places]
    """Rows of each split, in drawn order."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of prompts in each split."""
        return {split: len(self.places[split]) for split in SPLITS}

    def first(self, num: int) -> pa.Table:
        """Some prompts, without their split: a fair mix of those that were drawn first."""
        return take_rows(self.table, np.concatenate(list(self.places.values()))[:num])

    def taken(self, split: str, start: int, stop: int) -> pa.Table:
        """A stretch of a split, schema PROMPTS."""
        rows = take_rows(self.table, self.places[split][start:stop])
        names = pa.array([split] * rows.num_rows, pa.string())
        return conform(rows.append_column("split", names), PROMPTS, f"prompts of split {split}")


def split_prompts(
    table: pa.Table, num_parallel: int, num_heldout: int, seed: int, lost: str = ""
) -> SplitPrompts:
    """Give each prompt its split: parallel first, then heldout, the rest routed.

    Args:
        table: PROMPTS without `split`.
        num_parallel: size of the parallel set.
        num_heldout: size of the held-out set.
        seed: of the order.
        lost: says in an error why there are no more prompts.

    Raises:
        ConfigError: there are fewer prompts than the parallel set and the held-out set need.
    """
    num_rows = table.num_rows
    for name, wanted, available in (
        ("num_parallel", num_parallel, num_rows),
        ("num_heldout", num_heldout, num_rows - num_parallel),
    ):
        if wanted > available:
            raise ConfigError(
                f"prompts.{name} is {wanted}, but of {num_rows} prompts only "
                f"{max(available, 0)} can be taken: lower prompts.{name} or add prompts.{lost}"
            )
    bounds = np.cumsum([num_parallel, num_heldout])
    stretches = np.split(drawn_order(table["prompt_id"], seed), bounds)
    return SplitPrompts(table, dict(zip(SPLITS, stretches, strict=True)))


def drawn_order(ids: pa.ChunkedArray, seed: int) -> Places:
    """The order of prompts that their ids and a seed decide."""
    digests = b"".join(_digests(chunk.to_pylist(), seed) for chunk in ids.chunks)
    high_and_low = np.frombuffer(digests, ">u8").reshape(-1, 2)
    return np.lexsort((high_and_low[:, 1], high_and_low[:, 0]))


def _digests(ids: Sequence[str], seed: int) -> bytes:
    return b"".join(
        hashlib.blake2b(f"{seed}:{one}".encode(), digest_size=16).digest() for one in ids
    )
