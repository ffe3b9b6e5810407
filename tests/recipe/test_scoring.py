"""The scoring section: what cannot work, of judges and of several qualities, is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.recipe.scoring import JudgeConfig, SeveralConfig

Make = Callable[..., Recipe]
ENDPOINT = {"kind": "openai", "model": "tiny"}
MATCH = {"kind": "exact_match"}


def judge(**settings: Any) -> dict[str, Any]:
    return {"kind": "judge", "engine": ENDPOINT} | settings


def part(name: str, quality: dict[str, Any] = MATCH, **settings: Any) -> dict[str, Any]:
    return {"name": name, "quality": quality} | settings


def several(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "several", "parts": list(parts)}


@pytest.mark.parametrize(
    ("quality", "complaint"),
    [
        (judge(rubric="Grade {response}."), r"rubric lacks \['\{prompt\}'\]"),
        (judge(lowest=5, highest=5), "lowest 5 must be below highest 5"),
        (judge(highest=float("inf")), "finite"),
        (judge(pattern="Score: ("), "pattern is no regular expression"),
        (judge(pattern=r"Score: \d+"), r"needs a group \(\.\.\.\) around the grade"),
        (judge(engine={"kind": "scripted"}), "scripted writes answers of a planted world"),
        (
            judge(
                engine={"kind": "transformers", "model": {"name": "m"}},
                sampling={"max_tokens": 99, "thinking_tokens": 9},
            ),
            "thinking_tokens works with vllm and openai, not with transformers",
        ),
        (several(part("a")), "at least 2"),
        (several(part("a"), part("a", judge())), r"names \['a', 'a'\]"),
        (several(part("a"), part("b", weight=0)), "greater than 0"),
        (several(part("a"), part("b", several(part("c"), part("d")))), "several"),
    ],
)
def test_what_cannot_work_is_refused(
    make_recipe: Make, quality: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_recipe({"scoring.quality": quality})


def test_the_default_rubric_and_pattern_belong_together(make_recipe: Make) -> None:
    recipe = make_recipe({"scoring.quality": judge()})
    how = recipe.scoring.quality
    assert isinstance(how, JudgeConfig)
    teacher = how.as_teacher()
    assert (teacher.name, teacher.sampling.max_tokens) == ("judge", 1024)
    assert parse_recipe(recipe.model_dump(mode="json"), "again") == recipe


def test_a_recorded_judge_says_nothing_of_sampling_unless_told(make_recipe: Make) -> None:
    engine = {"kind": "recorded", "path": "grades.jsonl"}
    recorded = make_recipe({"scoring.quality": judge(engine=engine)}).scoring.quality
    assert isinstance(recorded, JudgeConfig)
    assert recorded.as_teacher().sampling.max_tokens == 512
    told = judge(engine=engine, sampling={"max_tokens": 99})
    told_how = make_recipe({"scoring.quality": told}).scoring.quality
    assert isinstance(told_how, JudgeConfig)
    assert told_how.as_teacher().sampling.max_tokens == 99


def test_several_qualities_weigh_the_same_by_default(make_recipe: Make) -> None:
    quality = make_recipe({"scoring.quality": several(part("a"), part("b", judge()))})
    assert isinstance(quality.scoring.quality, SeveralConfig)
    assert [one.weight for one in quality.scoring.quality.parts] == [1.0, 1.0]
