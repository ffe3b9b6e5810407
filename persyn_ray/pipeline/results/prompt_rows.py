"""Rows of some prompts: a table and ids in, the rows of these prompts out, the rest unread.

Ids are read first, and then only those row groups that hold them: a look at one prompt of a million
costs its ids and some rows, not their texts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from persyn_ray.errors import DamagedError
from persyn_ray.shards.part_files import one_per_key, parts_in
from persyn_ray.storage.folder import Folder

pc: Any = compute  # its functions are made at import, where a type checker does not see them
LISTINGS = 3  # of a folder whose parts are being put together meanwhile


def rows_of(
    folder: Folder, name: str, prompt_ids: Sequence[str], columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of one file that belong to some prompts, in the file's order.

    Args:
        columns: by default all.

    Raises:
        DamagedError: the file holds no table.
        FileNotFoundError: it is gone.
    """
    wanted = pa.array(prompt_ids, pa.string())
    asked = None if columns is None else list(dict.fromkeys(["prompt_id", *columns]))
    with folder.parquet(name) as file:
        is_wanted = pc.is_in(file.read(["prompt_id"])["prompt_id"], value_set=wanted)
        hits = np.flatnonzero(is_wanted.to_numpy())
        metadata = file.metadata
        ends = np.cumsum([metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)])
        groups = np.unique(np.searchsorted(ends, hits, side="right")).tolist()
        table = file.read_row_groups(groups, asked)
    return table.filter(pc.is_in(table["prompt_id"], value_set=wanted))


def row_of(folder: Folder, name: str, prompt_id: str) -> dict[str, Any]:
    """The row of one prompt in one file; empty where the file or the row is not there.

    A file that cannot be read counts as absent.
    """
    try:
        return next(iter(rows_of(folder, name, [prompt_id]).to_pylist()), {})
    except (DamagedError, FileNotFoundError):
        return {}


def part_rows_of(folder: Folder, shard: str, prompt_id: str, schema: pa.Schema) -> pa.Table:
    """The rows of one prompt in a table of part files, one for each key.

    A part that cannot be read counts as absent, as for every reader.
    """
    for _ in range(LISTINGS):
        found, is_whole = [schema.empty_table()], True
        for part in parts_in(folder, shard):
            try:
                found.append(rows_of(folder, part.name, [prompt_id], schema.names))
            except FileNotFoundError:
                is_whole = False
            except DamagedError:
                continue
        if is_whole:
            break
    return one_per_key(pa.concat_tables([one.select(schema.names) for one in found]))


def find_prompts(prompts: Folder, shards: Sequence[str], beginning: str) -> list[tuple[str, str]]:
    """Shard and id of the prompts whose id begins so; of PROMPTS only ids are read."""
    found: list[tuple[str, str]] = []
    for shard in shards:
        with prompts.parquet(shard) as file:
            ids = file.read(["prompt_id"])["prompt_id"]
        found += [(shard, one) for one in ids.filter(pc.starts_with(ids, beginning)).to_pylist()]
    return found
