"""Examples per method, and the data set that people take away."""

from collections.abc import Callable
from dataclasses import asdict

import pyarrow as pa

from persyn_ray.pipeline.assign.assignments import reassign
from persyn_ray.pipeline.write_examples import write_examples
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import ExampleCounts
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import EXAMPLES, RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def test_the_data_set_holds_every_example_once(finished: tuple[Recipe, RunLayout]) -> None:
    _, run = finished
    data = run.dataset / "data"
    assert data.names() == ["train-00000.parquet"]
    table = data.read_table("train-00000.parquet")
    assert table.schema.names == EXAMPLES.names
    examples = [row for _, part in run.examples(PERSYN).tables() for row in part.to_pylist()]
    assert table.to_pylist() == examples
    assert len({row["prompt_id"] for row in examples}) == len(examples) == 20


def test_each_example_is_the_assigned_teachers(finished: tuple[Recipe, RunLayout]) -> None:
    _, run = finished
    assigned = [row for _, part in run.assignment(PERSYN).tables() for row in part.to_pylist()]
    teachers = {row["prompt_id"]: row["teacher"] for row in assigned}
    for _, part in run.examples(PERSYN).tables():
        for row in part.to_pylist():
            assert row["teacher"] == teachers[row["prompt_id"]]
            assert row["messages"][-1]["role"] == "assistant"


def test_writing_again_replaces_the_data_set(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models)
    run = carry_out(recipe, until="synthesize")
    before = (run.dataset / "data").read_table("train-00000.parquet")
    run.dataset.write_text("data/train-00007.parquet", "from an earlier, larger run")
    counts = write_examples(recipe, run, PERSYN)
    assert counts == asdict(ExampleCounts(kept=20)) | {"reassigned": 0}
    assert (run.dataset / "data").names() == ["train-00000.parquet"]
    assert (run.dataset / "data").read_table("train-00000.parquet") == before


def test_prompts_of_a_next_best_teacher_are_counted_and_become_examples(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models | {"responses.incomplete": "next_best"})
    run = carry_out(recipe, until="synthesize")
    assigned = [row for _, part in run.assignment(PERSYN).tables() for row in part.to_pylist()]
    name = assigned[0]["teacher"]
    num_assigned = sum(row["teacher"] == name for row in assigned)
    for teacher in recipe.teachers:
        if teacher.name == name:
            for shard, table in list(run.responses(teacher).tables()):
                cut = [row | {"finish_reason": "length"} for row in table.to_pylist()]
                table = pa.Table.from_pylist(cut, schema=RESPONSES)
                run.responses(teacher).write_table(shard, table)
    assert write_examples(recipe, run, PERSYN)["truncated"] == num_assigned
    assert reassign(recipe, run, (PERSYN,)) == num_assigned
    counts = write_examples(recipe, run, PERSYN)
    assert (counts["truncated"], counts["reassigned"]) == (0, num_assigned)
    # Routed prompts wait for the next round of synthesis; all have answered the parallel ones.
    assert counts["kept"] + counts["without_response"] == 20
    assert counts["without_response"] < num_assigned
    for _, part in run.examples(PERSYN).tables():
        assert name not in part["teacher"].to_pylist()


def test_a_reference_leaves_the_data_set_alone(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models | {"compare.students": True, "compare.methods": ["random"]})
    run = carry_out(recipe, until="synthesize")
    run.dataset.remove()
    assert write_examples(recipe, run, "random")["kept"] == 20
    assert not run.dataset.exists()
