"""Routes prompts: rows of a shard in, router logits (and novelty, embeddings) of them filed.

Rows that are done lie as parts until their whole shard is, and are then put in the order of the
prompts.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute

from persyn_ray.recipe.comparison import EMBEDDED
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.evaluate import without_rows
from persyn_ray.shards.part_files import one_per_key, parts_in
from persyn_ray.shards.part_index import PartIndex
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.tables import LastTables
from persyn_ray.shards.units import Progress, Unit, rows_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import logits_schema

pc: Any = compute
PARTS = "parts"
"""Folder, in that of an ordered table, of rows that are done before their shard is whole."""


class RouteShard:
    """Router logits of a shard."""

    def __init__(self, recipe: Recipe) -> None:
        from persyn_ray.stages.embed import Embed
        from persyn_ray.stages.route import RoutePrompts

        self.recipe, self.run = recipe, run_of(recipe)
        with TemporaryDirectory() as scratch:
            folder = self.run.router.download(Path(scratch))
            self.stage = RoutePrompts(folder, recipe.teachers, recipe.router.max_length)
        is_embedded = bool(set(EMBEDDED) & set(recipe.compare.methods))
        self.embed = Embed(recipe.router, recipe.pool.names) if is_embedded else None
        self.read_shard = LastTables(self.run.prompts.read_table)
        schema = logits_schema(recipe.pool.names)
        self.done = PartIndex(self.run.logits / PARTS, schema)

    def __call__(self, unit: Unit) -> Progress:
        shard, prompts = unit["shard"], rows_of(unit, self.read_shard(unit["shard"]))
        if self.run.logits.holds_table(shard):
            return Progress()
        prompts = self.done.without(shard, prompts)
        if not prompts.num_rows:
            return Progress()
        if self.embed is not None:
            self._file(self.run.embeddings, unit, self.embed(prompts))
        logits, novelty = self.stage(prompts)
        if novelty is not None:
            self._file(self.run.novelty, unit, novelty)
        self._file(self.run.logits, unit, logits)  # last: the proof that the rows are done
        return Progress(logits.num_rows)

    def _file(self, folder: Folder, unit: Unit, table: pa.Table) -> None:
        """Write a whole shard where it belongs, and some rows of one as a part of it."""
        if "rows" in unit:
            add_part(folder / PARTS, {unit["shard"]: table})
        else:
            folder.write_table(unit["shard"], table)


def open_to_route(run: RunLayout, shard: str) -> list[int]:
    """Places of the prompts of a shard without logits; none where the shard is put together."""
    if run.logits.holds_table(shard):
        return []
    return without_rows(run, run.logits / PARTS, shard)


def put_routed_together(run: RunLayout, shards: Sequence[str]) -> None:
    """Write the shards of what step route leaves, each in the order of its prompts; its parts go.

    Logits come last: they are the proof that a shard is whole.
    """
    folders = (run.embeddings, run.novelty, run.logits)
    for shard in shards:
        for folder in folders:
            _put_together(run, folder, shard)
    for folder in folders:
        run.remove(folder / PARTS)


def _put_together(run: RunLayout, folder: Folder, shard: str) -> None:
    """Write a shard of a table from its parts, in the order of the prompts."""
    parts = parts_in(folder / PARTS, shard)
    if folder.holds_table(shard) or not parts:
        return
    table = one_per_key(pa.concat_tables([(folder / PARTS).read_table(p.name) for p in parts]))
    ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
    folder.write_table(shard, table.take(pc.index_in(ids, table["prompt_id"])))
