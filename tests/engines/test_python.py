"""An engine of one's own: what it answers, and what becomes of what it does wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.engines.base import Engine, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.layout import RunLayout

from ..own_code import own_module

CODE = """
from persyn_ray.engines.base import Completion, last_user_text, with_system_prompt

class Upper:
    overlaps = False

    def __init__(self, teacher, suffix):
        self.teacher, self.suffix, self.closed = teacher, suffix, 0

    def check(self):
        if self.suffix == "wrong":
            raise RuntimeError("no such suffix")

    def refuses(self, request):
        return "too rude" if "RUDE" in last_user_text(request.messages) else None

    def generate(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = last_user_text(with_system_prompt(request.messages, self.teacher.system_prompt))
        if "raise" in text:
            raise KeyError("no answer to this")
        if "plain" in text:
            return text
        if "odd" in text:
            return Completion(text, "finished", 0, 0)
        if "empty" in text:
            return Completion(None, "stop", 0, 0)
        limit = self.teacher.sampling.max_tokens
        return Completion((text.upper() + self.suffix)[:limit], "stop", 1, 1)

    def close(self):
        pass

class Short(Upper):
    def generate(self, requests):
        return super().generate(requests)[:-1]

class Deaf(Upper):
    def generate(self, requests):
        raise ConnectionError("nobody there")

def build(teacher, suffix="!"):
    return Upper(teacher, suffix)

def short(teacher):
    return Short(teacher, "")

def deaf(teacher):
    return Deaf(teacher, "")

def nothing(teacher):
    return object()

def fails(teacher):
    raise OSError("no such device")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_module(CODE, tmp_path, monkeypatch)


@pytest.fixture
def engine(module: str) -> Callable[..., Engine]:
    def make(factory: str, **teacher: Any) -> Engine:
        settings = teacher.pop("settings", {})
        how = {"kind": "python", "factory": f"{module}:{factory}", "settings": settings}
        return build_engine(TeacherConfig.model_validate({"name": "mine", "engine": how} | teacher))

    return make


def asked(*texts: str) -> list[Request]:
    return [Request(text, [{"role": "user", "content": text}]) for text in texts]


def test_it_answers_with_the_settings_and_the_teacher_s_own_sampling(engine) -> None:
    mine = engine("build", settings={"suffix": "?"}, sampling={"max_tokens": 4})
    mine.check()
    assert mine.refuses(asked("RUDE")[0]) == "too rude"
    assert [one.text for one in mine.generate(asked("abc", "abcdef"))] == ["ABC?", "ABCD"]
    mine.close()
    assert mine.generate(asked("x"))[0].text == "X?"


def test_what_it_does_wrong_is_that_request_s_failure_alone(engine) -> None:
    done = engine("build").generate(asked("a", "raise", "b", "plain", "odd", "empty"))
    assert [one.text for one in done] == ["A!", None, "B!", None, None, None]
    assert {one.finish_reason for one in done if one.text is None} == {"error"}
    for place, why in ((1, "KeyError"), (3, "no Completion"), (4, "'finished'"), (5, "text None")):
        assert why in str(done[place].error)


def test_too_few_answers_are_never_taken_for_other_requests(engine) -> None:
    done = engine("short").generate(asked("a", "b"))
    assert all(one.text is None and "0 values for 1" in str(one.error) for one in done)


def test_one_that_never_answers_ends_the_step(engine) -> None:
    with pytest.raises(StepError, match=r"teacher 'mine' answered none of 9 .*nobody there"):
        engine("deaf").generate(asked(*"abcdefghi"))


@pytest.mark.parametrize(
    ("factory", "settings", "why"),
    [
        ("absent", {}, "has no 'absent'"),
        ("nothing", {}, "lacks \\['check', 'refuses', 'generate', 'close'\\]"),
        ("fails", {}, "could not be built. OSError: no such device"),
        ("build", {"prefix": 1}, "could not be built. TypeError"),
        ("build", {"suffix": "wrong"}, "check failed. RuntimeError: no such suffix"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    engine, factory: str, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        engine(factory, settings=settings).check()
    assert "mine" in str(caught.value)


def test_a_run_collects_from_it_and_its_failures_are_dead_letters(
    module: str, make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout]
) -> None:
    teachers = [
        {"name": "mine", "engine": {"kind": "python", "factory": f"{module}:build"}},
        {"name": "a", "engine": {"kind": "scripted"}},
    ]
    recipe = make_recipe({"teachers": teachers})
    run = carry_out(recipe, until="collect")
    tables = [table for _, table in run.responses(recipe.teachers[0]).tables()]
    said = [row["response"] for table in tables for row in table.to_pylist()]
    assert len(said) == 12
    assert all(text.endswith("!") and text == text.upper() for text in said)
    Path(f"{module}.py").write_text(CODE + "\n# another\n")
    again, mine = make_recipe({"teachers": teachers}), recipe.teachers[0]
    assert run.stored_responses(again.teachers[0]).address != run.stored_responses(mine).address
