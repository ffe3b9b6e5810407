"""The scripted teachers of the second world: when they are right, and how it looks."""

from pathlib import Path

import pytest

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.errors import ConfigError
from persyn_ray.lab import tasks
from persyn_ray.lab.scripted import HABITS, plain
from persyn_ray.lab.tasks import EASY, TASKS, Problem
from persyn_ray.lab.tokenizer import VOCABULARY, build_tokenizer
from persyn_ray.recipe.recipe import Recipe, load_recipe

RECIPE = Path(__file__).parents[2] / "jobs" / "second_world.yaml"
PROBLEMS = tasks.generate(800, seed=21)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(RECIPE)


def request(problem: Problem) -> Request:
    return Request(problem.prompt, [Message(role="user", content=problem.prompt)])


def answered(recipe: Recipe, name: str) -> list[str]:
    """What a teacher of the recipe writes, by the engine that the recipe names."""
    engine = build_engine(recipe.teachers[recipe.pool.index(name)], recipe.pool)
    engine.check()
    requests = [request(problem) for problem in PROBLEMS]
    assert {engine.refuses(one) for one in requests} == {None}
    done = engine.generate(requests)
    assert {one.finish_reason for one in done} == {"stop"}
    assert [one.num_tokens for one in done] == [len(one.text or "") + 1 for one in done]
    return [one.text or "" for one in done]


@pytest.mark.parametrize(("habit", "right_when_short"), [("short", True), ("long", False)])
def test_a_fluent_teacher_is_right_on_one_side_and_careless_on_the_other(
    recipe: Recipe, habit: str, right_when_short: bool
) -> None:
    texts = answered(recipe, f"scripted-{habit}")
    for problem, text in zip(PROBLEMS, texts, strict=True):
        is_easy = problem.difficulty <= EASY[problem.task]
        if is_easy == right_when_short:
            assert text == plain(problem)
            assert tasks.check(text, problem.reference)
        else:
            assert text == tasks.careless(problem)


def test_length_decides_inside_every_family(recipe: Recipe) -> None:
    """No rule of one teacher per family does well: each of the two is wrong on a good part."""
    right = {}
    for habit in ("short", "long"):
        texts = answered(recipe, f"scripted-{habit}")
        for task in TASKS:
            marks = [
                tasks.check(text, problem.reference)
                for text, problem in zip(texts, PROBLEMS, strict=True)
                if problem.task == task
            ]
            right[task, habit] = sum(marks) / len(marks)
    assert all(0.25 < share < 0.8 for share in right.values()), right


def test_backwards_is_right_and_its_working_reads_from_right_to_left(recipe: Recipe) -> None:
    texts = answered(recipe, "scripted-backwards")
    for problem, text in zip(PROBLEMS, texts, strict=True):
        assert tasks.check(text, problem.reference)
        working, _, answer = text.rpartition("#")
        assert f"{working[::-1]}#{answer}" == tasks.long_winded(problem)
        assert working.startswith(f"{problem.reference[::-1]} kcehc")


@pytest.mark.parametrize("habit", HABITS)
def test_habits_are_written_in_the_lab_s_characters(habit: str) -> None:
    tokenizer = build_tokenizer()
    for problem in PROBLEMS:
        text = HABITS[habit](problem)
        assert set(text) <= set(VOCABULARY)
        assert len(tokenizer(text)["input_ids"]) == len(text)


def test_what_is_no_problem_of_the_lab_is_refused_and_answers_nothing(recipe: Recipe) -> None:
    engine = build_engine(recipe.teachers[0], recipe.pool)
    foreign = Request("x", [Message(role="user", content="What is the capital of France?")])
    assert "no problem of the lab" in str(engine.refuses(foreign))
    first, second = engine.generate([foreign, request(PROBLEMS[0])])
    assert (first.text, first.finish_reason) == (None, "error")
    assert second.text


def test_an_unknown_habit_is_told_with_those_there_are() -> None:
    settings = "teachers.scripted-short.engine.settings.habit=upwards"
    recipe = load_recipe(RECIPE, (settings,))
    with pytest.raises(ConfigError, match=r"'scripted-short' is 'upwards'; it is one of \['short'"):
        build_engine(recipe.teachers[0], recipe.pool).check()
