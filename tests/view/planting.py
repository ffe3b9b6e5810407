"""Run folders written table by table, at any address: prompts in, as far as asked for."""

from typing import Any

import pyarrow as pa

from persyn_ray.recipe.recipe import Recipe, parse_recipe, stored
from persyn_ray.shards.response_store import hashed
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of, run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.schemas import (
    ASSIGNMENT,
    LEARNABILITY,
    NOVELTY,
    PROMPTS,
    QUALITY,
    RESPONSES,
    filed,
    logits_schema,
    rewards_schema,
)

TEACHERS = ("a", "b")
Row = dict[str, Any]


def recipe_at(address: str, **changes: Any) -> Recipe:
    data: Row = {
        "run": address,
        "student": {"name": "random:llama"},
        "teachers": [
            {"name": name, "engine": {"kind": "scripted"}, "price": {"prompt": 1, "response": 2}}
            for name in TEACHERS
        ],
        "prompts": {"path": "prompts.jsonl", "reference_column": "answer"},
        "scoring": {"quality": {"kind": "exact_match"}},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data | changes, "test")


def planted(address: str, prompts: list[Row], shard_rows: int = 3, **changes: Any) -> RunLayout:
    """A run with step prompts done; each prompt has `id`, `text` and perhaps task, split.

    Splits are kept apart in shards, as step prompts does it.
    """
    recipe = recipe_at(address, **changes)
    run = run_of(recipe)
    shards: dict[str, list[str]] = {"parallel": [], "heldout": [], "routed": []}
    for split, names in shards.items():
        of = [row for row in prompts if row.get("split", "routed") == split]
        for start in range(0, len(of), shard_rows):
            name = f"shard-{sum(map(len, shards.values())):06d}.parquet"
            rows = [_prompt(row, split) for row in of[start : start + shard_rows]]
            write(run.prompts, name, rows, PROMPTS)
            names.append(name)
    splits = {s: sum(row.get("split", "routed") == s for row in prompts) for s in shards}
    result = {"rows": len(prompts), "splits": splits, "sharding": "0" * 16, "shards": shards}
    record(run, "prompts", result)
    run.root.write_json("recipe.json", stored(recipe))
    return run


def _prompt(row: Row, split: str) -> Row:
    messages = row.get("messages") or [{"role": "user", "content": row["text"]}]
    known = {"reference": None, "task": row.get("task"), "source": row.get("source", "here")}
    return {"prompt_id": row["id"], "messages": messages, "split": split} | known


def record(
    run: RunLayout, step: str, result: Row, finished: str = "2026-01-01T00:00:00+00:00"
) -> None:
    write_record(run.records, Record(step, "0" * 16, {}, {}, result, 2.0, finished))


def write(folder: Folder, name: str, rows: list[Row], schema: pa.Schema) -> None:
    folder.write_table(name, pa.Table.from_pylist(rows, schema=schema))


def assign(run: RunLayout, shard: str, of: dict[str, tuple[str, float | None]]) -> None:
    """Teacher and margin of some prompts, with logits that say so."""
    rows = [{"prompt_id": one, "teacher": t, "margin": margin} for one, (t, margin) in of.items()]
    write(run.assignment(PERSYN), shard, rows, ASSIGNMENT)
    logits = [
        {
            "prompt_id": one,
            "logits": [margin or 0.0 if teacher == name else 0.0 for name in TEACHERS],
            "candidates": [True, True],
        }
        for one, (teacher, margin) in of.items()
    ]
    write(run.logits, shard, logits, logits_schema(TEACHERS))


def reward(run: RunLayout, shard: str, of: dict[str, Row]) -> None:
    """Signals of some prompts: lists in the order of teachers."""
    write(
        run.rewards,
        shard,
        [{"prompt_id": one} | row for one, row in of.items()],
        rewards_schema(TEACHERS),
    )


def distances(run: RunLayout, shard: str, of: dict[str, tuple[float, bool]]) -> None:
    rows = [{"prompt_id": one, "distance": d, "is_novel": n} for one, (d, n) in of.items()]
    write(run.novelty, shard, rows, NOVELTY)


def respond(run: RunLayout, teacher: int, name: str, of: dict[str, Row | str]) -> pa.Table:
    """A part file of a teacher's responses: a text, or columns that differ."""
    recipe = recipe_at(run.root.address)
    rows = []
    for one, given in of.items():
        changes = {"response": given} if isinstance(given, str) else given
        base = {"response": None, "finish_reason": "stop", "num_prompt_tokens": 5}
        base |= {"num_tokens": 10, "error": None}
        rows.append({"prompt_id": one, "teacher": TEACHERS[teacher]} | base | changes)
    table = pa.Table.from_pylist(rows, schema=RESPONSES)
    run.responses(recipe.teachers[teacher]).write_table(name, table)
    return table


def score(run: RunLayout, teacher: int, name: str, said: pa.Table, **measures: Any) -> None:
    """Learnability and quality of some responses, the same for all."""
    recipe = recipe_at(run.root.address)
    known = {"num_tokens": 10, "is_truncated": False, "outcome": "scored"}
    for schema, folder, values in (
        (LEARNABILITY, run.learnability(recipe.teachers[teacher]), known | measures),
        (
            QUALITY,
            run.quality(recipe.teachers[teacher], parts_of(recipe.scoring)[0]),
            {"quality": 1.0, "outcome": "correct"},
        ),
    ):
        rows = [
            {"prompt_id": row["prompt_id"], "teacher": row["teacher"], "response_hash": of} | values
            for row, of in zip(said.to_pylist(), hashed(said).to_pylist(), strict=True)
        ]
        write(folder, name, rows, filed(schema))
