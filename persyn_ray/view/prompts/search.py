"""Search in the texts of prompts: words in, places of prompts out, within a time limit.

Texts are read row group by row group and not kept. A search that reached its limit goes on where it
stopped when it is asked for again.
"""

import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from persyn_ray.storage.folder import Folder
from persyn_ray.view.index import Index

pc: Any = compute  # its functions are made at import, where a type checker does not see them


class Search:
    """One search over those prompts that fit the other filters."""

    def __init__(self, words: str, fits_P: NDArray[np.bool_]) -> None:
        self.words, self.fits_P = words, fits_P
        self.places: list[int] = []
        """Found so far, in the order of the run."""
        self.searched = 0
        """Prompts looked at so far, from the first on."""
        self._shard = self._group = 0
        self._lock = threading.Lock()

    def is_complete(self, index: Index) -> bool:
        """Whether every prompt has been looked at."""
        return self._shard >= len(index.shards)

    def go_on(self, prompts: Folder, index: Index, seconds: float) -> None:
        """Look at more prompts, at least at one row group, for so many seconds."""
        end = time.monotonic() + seconds
        with self._lock:
            while self._shard < len(index.ids):
                if not self._search_shard(prompts, index, end):
                    return

    def _search_shard(self, prompts: Folder, index: Index, end: float) -> bool:
        """Search one shard from where it was left; False when the time is over."""
        start, stop = index.starts[self._shard], index.starts[self._shard + 1]
        if self.fits_P[start:stop].any():
            with prompts.parquet(index.shards[self._shard][0]) as file:
                while self._group < file.metadata.num_row_groups:
                    num_rows = file.metadata.row_group(self._group).num_rows
                    if self.fits_P[self.searched : self.searched + num_rows].any():
                        table = file.read_row_group(self._group, ["prompt_id", "messages"])
                        self._keep(matching(table, self.words))
                    self._group += 1
                    self.searched += num_rows
                    if time.monotonic() > end and self._group < file.metadata.num_row_groups:
                        return False
        self._shard, self._group, self.searched = self._shard + 1, 0, stop
        return time.monotonic() <= end

    def _keep(self, rows: NDArray[np.int64]) -> None:
        places = self.searched + rows
        self.places += places[self.fits_P[places]].tolist()


def matching(table: pa.Table, words: str) -> NDArray[np.int64]:
    """Rows of PROMPTS whose messages hold the words, whatever their case, or whose id begins so."""
    messages = table["messages"].combine_chunks()
    contents = pc.struct_field(pc.list_flatten(messages), "content")
    holds = pc.fill_null(pc.match_substring(contents, words, ignore_case=True), False)
    parents = np.asarray(pc.list_parent_indices(messages))
    in_text = parents[np.asarray(holds.to_numpy(zero_copy_only=False), np.bool_)]
    by_id = pc.starts_with(table["prompt_id"], words.lower()).to_numpy()
    return np.union1d(in_text, np.flatnonzero(by_id)).astype(np.int64)
