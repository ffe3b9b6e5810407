"""When an evaluation cuts answers of a length that students are taught to write."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.pipeline.plan.evaluation_warnings import cut_answers
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig

WRITES = {"kind": "openai", "model": "m", "api_key_env": None}


def teacher(most: int, retry: int | None = None, **given: Any) -> TeacherConfig:
    sampling = {"max_tokens": most, "retry_tokens": retry}
    return TeacherConfig.model_validate(
        {"name": f"t{most}", "engine": WRITES, "sampling": sampling} | given
    )


@pytest.fixture
def warned(make_recipe: Callable[..., Recipe]) -> Callable[..., list[str]]:
    def warn(teachers: list[TeacherConfig], allowed: int, longest: int = 4096) -> list[str]:
        recipe = make_recipe({"evaluate.max_tokens": allowed, "finetune.max_length": longest})
        return list(cut_answers(teachers, recipe.finetune, recipe.evaluate, recipe.scoring))

    return warn


@pytest.mark.parametrize(
    ("teachers", "allowed", "taught"),
    [
        ([teacher(512)], 256, 512),
        ([teacher(256), teacher(1024)], 512, 1024),
        ([teacher(256, retry=1024)], 512, 1024),
        ([teacher(8192)], 512, 4096),
    ],
)
def test_the_longest_that_is_taught_is_asked_for(
    warned: Callable[..., list[str]], teachers: list[TeacherConfig], allowed: int, taught: int
) -> None:
    (said,) = warned(teachers, allowed)
    assert f"up to {taught:,} tokens" in said
    assert f"at most {allowed:,}:" in said
    assert f"Set evaluate.max_tokens to {taught}," in said


@pytest.mark.parametrize(
    "teachers",
    [
        [teacher(512)],
        [teacher(256), teacher(1024, retired=True)],
        [teacher(1024, engine={"kind": "recorded", "path": "answers.parquet"})],
        [teacher(1024, engine={"kind": "scripted"})],
    ],
)
def test_nothing_is_said_where_nobody_is_taught_longer_answers(
    warned: Callable[..., list[str]], teachers: list[TeacherConfig]
) -> None:
    assert warned(teachers, 512) == []


def test_what_finetuning_cuts_itself_is_not_taught(warned: Callable[..., list[str]]) -> None:
    assert warned([teacher(1024)], 512, longest=512) == []
