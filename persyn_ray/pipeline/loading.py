"""Step prompts: read, de-duplicate, split, and lay the prompts down in shards of one split each."""

from typing import Any

import pyarrow as pa

from persyn_ray import rows
from persyn_ray.config import Recipe
from persyn_ray.layout import Run
from persyn_ray.prompts import LoadedPrompts, load_prompts, split_prompts
from persyn_ray.schemas import PROMPTS, conform
from persyn_ray.scoring import RewardModel
from persyn_ray.stages.work import check_of
from persyn_ray.storage import shard_name

SPLITS = ("parallel", "heldout", "routed")


def read_prompts(recipe: Recipe) -> LoadedPrompts:
    """All prompts of a recipe with their splits; held-out ones may come from a file of their own.

    A prompt in both files is held out, so that nobody trains on it, and counts as a duplicate.
    """
    section, path = recipe.prompts, recipe.evaluate.path
    checks_heldout = check_of(recipe) is not None
    needs_reference = not isinstance(recipe.scoring.quality, RewardModel)
    if path is None:
        needs_reference |= checks_heldout and section.num_heldout > 0
        loaded = load_prompts(section, require_reference=needs_reference)
        table = split_prompts(loaded.table, section.num_parallel, section.num_heldout, section.seed)
        return LoadedPrompts(table, loaded.dead, loaded.num_duplicates)
    loaded = load_prompts(section, require_reference=needs_reference)
    apart = load_prompts(section, path, require_reference=checks_heldout)
    ours = rows.without(loaded.table, "prompt_id", apart.table["prompt_id"])
    splits = pa.array(["heldout"] * apart.table.num_rows, pa.string())
    heldout = conform(apart.table.append_column("split", splits), PROMPTS, "held-out prompts")
    return LoadedPrompts(
        pa.concat_tables([split_prompts(ours, section.num_parallel, 0, section.seed), heldout]),
        pa.concat_tables([loaded.dead, apart.dead]),
        loaded.num_duplicates + apart.num_duplicates + loaded.table.num_rows - ours.num_rows,
    )


def write_prompts(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Write PROMPTS in shards; returns counts and the names of every split's shards."""
    loaded = read_prompts(recipe)
    if loaded.dead.num_rows:
        run.dead_letters("prompts").write_table("rows.parquet", loaded.dead)
    return {
        "rows": loaded.table.num_rows,
        "errors": loaded.dead.num_rows,
        "duplicates": loaded.num_duplicates,
        "splits": count_splits(loaded.table),
        "shards": _write_shards(run, loaded.table, recipe.prompts.shard_rows),
    }


def count_splits(table: pa.Table) -> dict[str, int]:
    """Number of prompts in each split."""
    return {split: rows.where(table, "split", split).num_rows for split in SPLITS}


def _write_shards(run: Run, table: pa.Table, shard_rows: int) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = {split: [] for split in SPLITS}
    number = 0
    for split in SPLITS:
        part = rows.where(table, "split", split)
        for start in range(0, part.num_rows, shard_rows):
            name = shard_name(number)
            run.prompts.write_table(name, conform(part.slice(start, shard_rows), PROMPTS, name))
            shards[split].append(name)
            number += 1
    return shards
