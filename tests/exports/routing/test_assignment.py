"""The assignment as a table: the same rows as Parquet and as CSV, with every probability."""

import csv
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.pipeline.export import export_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout

from ..rows import TableRows, routed

CHANCES = [{"teacher": "a", "probability": 0.1}, {"teacher": "b", "probability": 0.9}]


def test_parquet_and_csv_hold_the_same(
    facts: Facts, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    rows = TableRows(
        (
            routed(1, "assigned", "b", router_probabilities=CHANCES, margin=2.25, task='x, "y"\n'),
            routed(2, "assigned", "a", router_probabilities=None),
        )
    )
    export(form_named("assignment"), rows, facts, Folder(str(tmp_path)))
    first, second = pq.read_table(tmp_path / "assignment.parquet").to_pylist()
    assert (first["prompt_id"], first["teacher"]) == ("p1", "b")
    assert [first[f"p_{name}"] for name in "abc"] == [0.1, 0.9, None]
    assert [second[f"p_{name}"] for name in "abc"] == [None] * 3
    with (tmp_path / "assignment.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [list(row) for row in told] == [list(first), list(second)]
    assert told[0]["task"] == 'x, "y"\n'
    assert [float(told[0][name]) for name in ("margin", "p_a", "p_b")] == [2.25, 0.1, 0.9]
    assert told[1]["p_a"] == told[0]["p_c"] == ""
    record_property("accepted", "assignment")  # benchmarks/exports.py reads this


def test_the_assignment_of_a_run(finished: tuple[Recipe, RunLayout], tmp_path: Path) -> None:
    recipe, run = finished
    export_run(run.root.address, "assignment", str(tmp_path))
    rows = pq.read_table(tmp_path / "assignment.parquet").to_pylist()
    stored = [row for _, part in run.assignment(PERSYN).tables() for row in part.to_pylist()]
    key = "prompt_id"
    assert sorted((row[key], row["teacher"]) for row in rows) == sorted(
        (row[key], row["teacher"]) for row in stored
    )
    for row in rows:
        chances = [row[f"p_{name}"] for name in recipe.pool.names]
        assert abs(sum(chances) - 1) < 1e-9
        assert row[f"p_{row['teacher']}"] == max(chances)


def test_a_retired_teacher_has_no_column(facts: Facts, tmp_path: Path) -> None:
    a, b, c = facts.teachers
    told = Facts(**{**vars(facts), "teachers": (a, b.model_copy(update={"retired": True}), c)})
    rows = TableRows((routed(1, "assigned", "a"),))
    export(form_named("assignment"), rows, told, Folder(str(tmp_path)))
    assert "p_b" not in pq.read_table(tmp_path / "assignment.parquet").column_names
