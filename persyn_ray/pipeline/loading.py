"""Step prompts: read, de-duplicate, split, and lay the prompts down in shards of one split each."""

from typing import Any

import pyarrow as pa

from persyn_ray import rows
from persyn_ray.config import Recipe
from persyn_ray.layout import Run
from persyn_ray.prompts import load_prompts, split_prompts
from persyn_ray.schemas import PROMPTS, conform
from persyn_ray.stages.work import check_of
from persyn_ray.storage import shard_name

SPLITS = ("parallel", "heldout", "routed")


def write_prompts(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Write PROMPTS in shards; returns counts and the names of every split's shards."""
    section = recipe.prompts
    checkable = check_of(recipe) is not None
    loaded = load_prompts(section, require_reference=checkable)
    own_file = recipe.evaluate.path is not None
    table = split_prompts(
        loaded.table, section.num_parallel, 0 if own_file else section.num_heldout, section.seed
    )
    dead, num_duplicates = [loaded.dead], loaded.num_duplicates
    if own_file:
        table, more_dead, more_duplicates = _add_heldout(recipe, table)
        dead.append(more_dead)
        num_duplicates += more_duplicates
    buried = pa.concat_tables(dead)
    if buried.num_rows:
        run.dead_letters.write_table("prompts.parquet", buried)
    shards = _write_shards(run, table, section.shard_rows)
    counts = {split: rows.where(table, "split", split).num_rows for split in SPLITS}
    return {
        "rows": table.num_rows,
        "errors": buried.num_rows,
        "duplicates": num_duplicates,
        "splits": counts,
        "shards": shards,
    }


def _add_heldout(recipe: Recipe, table: pa.Table) -> tuple[pa.Table, pa.Table, int]:
    """Join the held-out file; a prompt in both is held out, so that nobody trains on it."""
    path = recipe.evaluate.path
    assert path is not None
    section = recipe.prompts.model_copy(update={"path": path, "limit": None})
    loaded = load_prompts(section, require_reference=True)
    heldout = (
        loaded.table.drop_columns(["split"])
        if "split" in loaded.table.column_names
        else loaded.table
    )
    heldout = heldout.append_column("split", pa.array(["heldout"] * heldout.num_rows, pa.string()))
    kept = rows.without(table, "prompt_id", heldout["prompt_id"])
    joined = pa.concat_tables([t.select(PROMPTS.names).cast(PROMPTS) for t in (kept, heldout)])
    return joined, loaded.dead, loaded.num_duplicates + table.num_rows - kept.num_rows


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
