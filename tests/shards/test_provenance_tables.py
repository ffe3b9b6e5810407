"""Rows with provenance over tables as long runs leave them: part files, gaps, retired teachers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.results.explain import open_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import all_rows, existing, shards_in
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.provenance import RoutedRows, Split, identity_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import RESPONSES

Row = dict[str, Any]
Finished = tuple[Recipe, RunLayout]


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Finished:
    """A copy of a finished run, to be changed."""
    there = shutil.copytree(finished[1].root.local_path, tmp_path / "copied")
    return open_run(str(there))


def rows_of(opened: Finished, split: Split) -> list[Row]:
    recipe, run = opened
    source = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
    return [row for batch in source.batches(split) for row in batch.to_pylist()]


def rewritten(table: pa.Table, change: Callable[[Row], Row]) -> pa.Table:
    return pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=table.schema)


def test_how_responses_lie_in_part_files_does_not_matter(copied: Finished) -> None:
    recipe, run = copied
    before = {split: rows_of(copied, split) for split in ("train", "parallel")}
    for teacher in recipe.teachers:
        folder = run.responses(teacher)
        tables = {shard: existing(folder, shard, RESPONSES) for shard in sorted(shards_in(folder))}
        assert len(tables) > 1
        for name in folder.names():
            folder.remove(name)
        first, *others = tables
        halves = tables[first].slice(0, 2), tables[first].slice(2)
        add_part(folder, {first: halves[0]})
        add_part(folder, {shard: tables[shard] for shard in others} | {first: halves[1]})
        # Somebody asked again: what was there first stays what is read.
        again = {s: rewritten(t, lambda row: row | {"response": "x"}) for s, t in tables.items()}
        add_part(folder, again)
        assert len(folder.names()) == 3
    for split, rows in before.items():
        assert rows_of(copied, split) == rows


def test_a_response_that_failed_has_no_row_and_its_prompt_keeps_the_others(
    copied: Finished,
) -> None:
    recipe, run = copied
    gone = rows_of(copied, "parallel")[0]
    (teacher,) = [one for one in recipe.teachers if one.name == gone["teacher"]]
    folder = run.responses(teacher)

    def fail(row: Row) -> Row:
        failed = {"response": None, "finish_reason": "error"}
        return row | failed if row["prompt_id"] == gone["prompt_id"] else row

    assert gone["prompt_id"] in all_rows(folder, RESPONSES)["prompt_id"].to_pylist()
    tables = {s: rewritten(existing(folder, s, RESPONSES), fail) for s in shards_in(folder)}
    for name in folder.names():
        folder.remove(name)
    for shard, table in tables.items():
        folder.write_table(shard, table)
    rows = rows_of(copied, "parallel")
    left = [row["teacher"] for row in rows if row["prompt_id"] == gone["prompt_id"]]
    assert left == [name for name in recipe.pool.names if name != gone["teacher"]]
    assert len(rows) == 35


def test_missing_references_are_null_and_change_no_id(copied: Finished) -> None:
    before = rows_of(copied, "train")
    prompts = copied[1].prompts
    nothing = {"reference": None, "task": None}
    for shard, table in list(prompts.tables()):
        prompts.write_table(shard, rewritten(table, lambda row: row | nothing))
    after = rows_of(copied, "train")
    assert any(row["reference"] is not None for row in before)
    assert {(row["reference"], row["task"]) for row in after} == {(None, None)}
    assert [row["id"] for row in after] == [row["id"] for row in before]


def test_what_no_step_has_measured_is_null(copied: Finished) -> None:
    run = copied[1]
    whole = rows_of(copied, "parallel")
    for folder in (run.logits, run.novelty, run.rewards, run.root / "tables" / "assignment"):
        folder.remove()
    unmeasured = {"router_probabilities", "margin", "novelty", "is_novel", "reward"}
    rows = rows_of(copied, "parallel")
    assert [row["messages"] for row in rows] == [row["messages"] for row in whole]
    assert {row[name] for row in rows for name in (*unmeasured, "quality")} == {None}


def test_a_retired_teacher_keeps_its_rows(copied: Finished) -> None:
    _, run = copied
    before = {split: rows_of(copied, split) for split in ("assigned", "train", "parallel")}
    path = run.root.local_path / "recipe.json"
    stored = json.loads(path.read_text())
    stored["teachers"][0]["retired"] = True
    path.write_text(json.dumps(stored))
    retired = open_run(run.root.address)
    assert retired[0].teachers[0].retired
    for split, rows in before.items():
        assert rows_of(retired, split) == rows


def test_rows_of_a_prompt_follow_one_another_in_the_pools_order(copied: Finished) -> None:
    recipe, _ = copied
    rows = rows_of(copied, "parallel")
    prompts = list(dict.fromkeys(row["prompt_id"] for row in rows))
    assert [(row["prompt_id"], row["teacher"]) for row in rows] == [
        (prompt, name) for prompt in prompts for name in recipe.pool.names
    ]


def vllm(model: dict[str, object] | None = None, **settings: object) -> Row:
    named = {"name": "org/model", "revision": "abc"} | (model or {})
    engine = {"kind": "vllm", "model": named}
    return identity_of(TeacherConfig.model_validate({"name": "a", "engine": engine, **settings}))


def test_a_teachers_identity_names_its_model_and_revision() -> None:
    assert (vllm()["model"], vllm()["revision"]) == ("org/model", "abc")
    scripted = identity_of(
        TeacherConfig.model_validate({"name": "a", "engine": {"kind": "scripted"}})
    )
    assert (scripted["model"], scripted["revision"]) == (None, None)


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"sampling": {"temperature": 0.123}}, {"sampling_fingerprint"}),
        ({"system_prompt": "Be brief."}, {"template_fingerprint"}),
        ({"template_kwargs": {"enable_thinking": False}}, {"template_fingerprint"}),
        ({"model": {"chat_template": "{{ messages }}"}}, {"template_fingerprint"}),
        ({"model": {"revision": "def"}}, {"revision"}),
        ({"licence": "mit"}, set()),
        ({"retired": True}, set()),
    ],
)
def test_fingerprints_change_with_what_they_are_of_alone(
    settings: dict[str, Any], changed: set[str]
) -> None:
    before, after = vllm(), vllm(**settings)
    assert {name for name in before if before[name] != after[name]} == changed
