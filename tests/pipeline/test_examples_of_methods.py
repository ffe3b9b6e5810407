"""Examples per method: the assigned teachers' complete responses."""

from collections.abc import Callable

import pyarrow as pa

from persyn_ray.pipeline.assign.assignments import reassign
from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.dataset import write_examples
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def test_each_example_is_the_assigned_teachers(finished: tuple[Recipe, RunLayout]) -> None:
    _, run = finished
    assigned = [row for _, part in run.assignment(PERSYN).tables() for row in part.to_pylist()]
    teachers = {row["prompt_id"]: row["teacher"] for row in assigned}
    for _, part in run.examples(PERSYN).tables():
        for row in part.to_pylist():
            assert row["teacher"] == teachers[row["prompt_id"]]
            assert row["messages"][-1]["role"] == "assistant"


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
    assert write_examples(response_settings(recipe), run, PERSYN)["truncated"] == num_assigned
    assert reassign(response_settings(recipe), run, (PERSYN,)) == num_assigned
    counts = write_examples(response_settings(recipe), run, PERSYN)
    assert (counts["truncated"], counts["reassigned"]) == (0, num_assigned)
    # Routed prompts wait for the next round of synthesis; all have answered the parallel ones.
    assert counts["kept"] + counts["without_response"] == 20
    assert counts["without_response"] < num_assigned
    for _, part in run.examples(PERSYN).tables():
        assert name not in part["teacher"].to_pylist()
