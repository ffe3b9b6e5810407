"""The student's section: how answers end, how long they are, and how much they repeat."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.results.student import Tuned, gather_student
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.content import complete_section
from persyn_ray.report.html import render
from persyn_ray.report.problems import Problems
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import EVALUATIONS


def answered(run: RunLayout, student: str, *answers: tuple[str | None, str, float | None]) -> None:
    (shard,) = shards_of(run, "heldout")
    ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
    rows = [
        {
            "prompt_id": name,
            "student": student,
            "response": text,
            "finish_reason": reason,
            "outcome": "correct" if correct else "wrong",
            "correct": correct,
        }
        for name, (text, reason, correct) in zip(ids, answers, strict=True)
    ]
    add_part(run.evaluations(student), {shard: pa.Table.from_pylist(rows, schema=EVALUATIONS)})


@pytest.fixture
def section(
    make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout]
) -> Callable[..., Any]:
    def gathered(*answers: tuple[str | None, str, float | None]) -> Any:
        recipe = make_recipe()
        run = carry_out(recipe, until="prompts")
        for student in ("before", "persyn"):
            answered(run, student, *answers)
        names = ("before", "persyn")
        return gather_student(run, names, 0, Tuned({}, {}, loop_repeats=8), Problems())

    return gathered


def test_repetition_length_and_variety_stand_beside_accuracy(section: Callable[..., Any]) -> None:
    endless = "no idea so " * 60
    found = section(
        ("one two three", "stop", 1.0),
        ("one two", "stop", 0.0),
        (endless, "length", 0.0),
        (None, "error", None),
    )
    form = found["answers"]["persyn"]
    assert (form["num"], form["cut_share"], form["looped_share"]) == (4, 0.25, 0.25)
    assert (form["mean_words"], form["longest_words"]) == ((3 + 2 + 180) / 4, 180)
    assert form["distinct_1"] == 6 / 185
    assert form["distinct_2"] == 5 / (2 + 1 + 179)
    assert found["metric"] == "accuracy"
    page = render({"student": complete_section("student", found)})
    assert "repetition without end" in page


def test_shares_of_a_function_of_ones_own_are_a_score(section: Callable[..., Any]) -> None:
    right = [("a", "stop", 0.5), ("b", "stop", 1.0), ("c", "stop", 0.0), ("d", "stop", 0.5)]
    found = section(*right)
    assert (found["metric"], found["methods"]["persyn"]["value"]) == ("score", 0.5)
