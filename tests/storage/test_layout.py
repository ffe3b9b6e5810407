"""Where tables lie: under a key of all that determines them, and of nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import BEFORE, PERSYN, parts_of, run_of

Make = Callable[..., Recipe]


def responses(recipe: Recipe, place: int = 0) -> str:
    return run_of(recipe).stored_responses(recipe.teachers[place]).address


def learnability(recipe: Recipe) -> str:
    return run_of(recipe).learnability(recipe.teachers[0]).address


def quality(recipe: Recipe) -> str:
    (part,) = parts_of(recipe.scoring)
    return run_of(recipe).quality(recipe.teachers[0], part).address


def local(**changes: Any) -> list[dict[str, Any]]:
    engine = {"kind": "transformers", "model": {"name": "m"}} | changes.pop("engine", {})
    return [{"name": "a", "engine": engine, **changes}]


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": {"max_tokens": 7}},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"seed": 1}},
        {"system_prompt": "Be brief."},
        {"engine": {"model": {"name": "m", "revision": "abc"}}},
    ],
)
def test_responses_move_with_what_determines_them(
    make_recipe: Make, changes: dict[str, Any]
) -> None:
    before = make_recipe({"teachers": local()})
    after = make_recipe({"teachers": local(**changes)})
    assert responses(before) != responses(after)
    assert learnability(before) != learnability(after)
    assert quality(before) != quality(after)


@pytest.mark.parametrize("changes", [{"licence": "mit"}, {"engine": {"batch_size": 3}}])
def test_responses_stay_where_they_are_otherwise(
    make_recipe: Make, changes: dict[str, Any]
) -> None:
    assert responses(make_recipe({"teachers": local()})) == responses(
        make_recipe({"teachers": local(**changes)})
    )


def test_a_new_teacher_moves_no_other(make_recipe: Make) -> None:
    before = make_recipe({"teachers": local()})
    more = [{"name": "z", "engine": {"kind": "transformers", "model": {"name": "n"}}}, *local()]
    assert responses(before) == responses(make_recipe({"teachers": more}), place=1)


def test_alpha_moves_no_signal_and_the_student_moves_learnability_alone(make_recipe: Make) -> None:
    recipe = make_recipe()
    mixed = make_recipe({"scoring.alpha": 0.9, "scoring.scaling": "rank"})
    other = make_recipe({"student.name": "other"})
    assert learnability(recipe) == learnability(mixed)
    assert quality(recipe) == quality(mixed) == quality(other)
    assert learnability(recipe) != learnability(other)
    assert responses(recipe) == responses(other)


JUDGE: dict[str, Any] = {"kind": "judge", "engine": {"kind": "openai", "model": "tiny"}}
REWARD_MODEL = {"kind": "reward_model", "model": {"name": "m"}}


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ({"kind": "exact_answer"}, {"kind": "exact_answer", "processes": 4}, False),
        (REWARD_MODEL, REWARD_MODEL | {"tokens_per_batch": 1}, False),
        (REWARD_MODEL, REWARD_MODEL | {"max_length": 1}, True),
        (JUDGE, JUDGE | {"engine": JUDGE["engine"] | {"base_url": "http://else/v1"}}, False),
        (JUDGE, JUDGE | {"engine": JUDGE["engine"] | {"api_key_env": "KEY"}}, False),
        (JUDGE, JUDGE | {"engine": JUDGE["engine"] | {"model": "large"}}, True),
        (JUDGE, JUDGE | {"sampling": {"seed": 1}}, True),
        (JUDGE, JUDGE | {"rubric": "{prompt} {response}"}, True),
        (JUDGE, JUDGE | {"highest": 5}, True),
    ],
)
def test_quality_moves_with_what_shapes_its_values(
    make_recipe: Make, before: dict[str, Any], after: dict[str, Any], moves: bool
) -> None:
    first = quality(make_recipe({"scoring.quality": before}))
    assert (quality(make_recipe({"scoring.quality": after})) != first) == moves


def test_a_part_lies_where_it_would_lie_alone(make_recipe: Make) -> None:
    parts = [
        {"name": "a", "quality": JUDGE, "weight": 2},
        {"name": "b", "quality": REWARD_MODEL, "weight": 3},
    ]
    recipe = make_recipe({"scoring.quality": {"kind": "several", "parts": parts}})
    found = [run_of(recipe).quality(recipe.teachers[0], p) for p in parts_of(recipe.scoring)]
    alone = [quality(make_recipe({"scoring.quality": one})) for one in (JUDGE, REWARD_MODEL)]
    assert [folder.address for folder in found] == alone
    assert [(part.name, part.weight) for part in parts_of(recipe.scoring)] == [("a", 2), ("b", 3)]


def test_the_tuned_student_is_the_recipes_with_other_weights(make_recipe: Make) -> None:
    recipe = make_recipe({"student.revision": "abc", "student.dtype": "bfloat16"})
    run = run_of(recipe)
    assert run.student_model(recipe.student, BEFORE) == recipe.student
    tuned = run.student_model(recipe.student, PERSYN)
    assert (tuned.name, tuned.revision) == (run.student(PERSYN).address, None)
    assert tuned.dtype == "bfloat16"


def test_a_relative_run_folder_is_the_same_from_everywhere(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_of(make_recipe({"run": "runs/x"})).root.local_path == tmp_path / "runs" / "x"
