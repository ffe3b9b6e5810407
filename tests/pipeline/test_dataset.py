"""The data set that people take away: its rows, columns and splits, and when it is written anew."""

from collections.abc import Callable

import pytest
from rich.console import Console

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.dataset import write_dataset
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import drift, planned_steps
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.provenance import RoutedRows
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import EXAMPLES, ROUTED

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def test_the_data_set_holds_every_example_once(finished: tuple[Recipe, RunLayout]) -> None:
    _, run = finished
    data = run.dataset / "data"
    assert data.names() == ["train-00000.parquet"]
    table = data.read_table("train-00000.parquet")
    assert table.schema.equals(ROUTED)
    examples = [row for _, part in run.examples(PERSYN).tables() for row in part.to_pylist()]
    assert table.select(EXAMPLES.names).to_pylist() == examples
    assert len({row["prompt_id"] for row in examples}) == len(examples) == 20


def test_writing_again_replaces_the_data_set(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models)
    run = carry_out(recipe, until="synthesize")
    before = (run.dataset / "data").read_table("train-00000.parquet")
    run.dataset.write_text("data/train-00007.parquet", "from an earlier, larger run")
    rows = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
    write_dataset(run, rows, recipe.dataset)
    assert (run.dataset / "data").names() == ["train-00000.parquet"]
    assert (run.dataset / "data").read_table("train-00000.parquet") == before


def test_other_columns_and_splits_are_written_by_the_next_report(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, quiet: Console
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models)
    run = carry_out(recipe, until="synthesize")
    chosen = {"dataset.columns": ["reward", "messages"], "dataset.splits": ["train", "parallel"]}
    changed = make_recipe(models | chosen)
    assert not drift(planned_steps(changed, run))
    write_report(changed, run, quiet)
    data = run.dataset / "data"
    assert data.names() == ["parallel-00000.parquet", "train-00000.parquet"]
    assert data.read_table("train-00000.parquet").column_names == ["messages", "reward"]
    assert data.num_rows("parallel-00000.parquet") == 12 * len(recipe.teachers)
    told = run.dataset.read_text("README.md")
    assert "data/parallel-*.parquet" in told
    assert "`router_probabilities`" not in told
    run.dataset.write_text("data/train-00000.parquet", "not touched again")
    write_report(changed, run, quiet)
    assert run.dataset.read_text("data/train-00000.parquet") == "not touched again"


def test_heldout_prompts_are_a_split_of_their_own(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models | {"dataset.splits": ["heldout", "train"]})
    run = carry_out(recipe, until="synthesize")
    (heldout, train) = (rows.to_pylist() for _, rows in (run.dataset / "data").tables())
    assert {row["teacher"] for row in heldout} == {None}
    assert {row["prompt_id"] for row in heldout}.isdisjoint(row["prompt_id"] for row in train)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.columns", ["id"]),
        ("dataset.columns", ["messages", "rewards"]),
        ("dataset.splits", ["test"]),
        ("dataset.splits", []),
    ],
)
def test_columns_and_splits_that_are_none_are_refused(
    make_recipe: Make, key: str, value: list[str]
) -> None:
    with pytest.raises(ConfigError, match=key):
        make_recipe({key: value})
