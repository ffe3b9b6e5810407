"""The scripted engine answers as the planted world does, and fails where it is told to."""

import pytest

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.errors import PoolMismatchError
from persyn_ray.method.planted import specialists
from persyn_ray.recipe.pool import TeacherPool

POOL = TeacherPool(("ada", "bob", "cy"))
WORLD = specialists(4, POOL.names, seed=3)


def request(text: str, prompt_id: str = "p") -> Request:
    return Request(prompt_id, [Message(role="user", content=text)])


def test_answers_are_the_planted_worlds_in_order() -> None:
    prompts = WORLD.prompts(20)
    engine = ScriptedEngine("bob", POOL, num_tasks=4, seed=3)
    engine.check()
    completions = engine.generate([request(prompt.text) for prompt in prompts])
    assert [item.text for item in completions] == [
        WORLD.answer(prompt.text, "bob")[0] for prompt in prompts
    ]
    assert {item.finish_reason for item in completions} == {"stop"}
    assert all(item.num_tokens == len(str(item.text).split()) for item in completions)
    assert engine.refuses(request(prompts[0].text)) is None


def test_the_marked_prompt_fails_and_its_neighbours_do_not() -> None:
    texts = [prompt.text for prompt in WORLD.prompts(6)]
    engine = ScriptedEngine("ada", POOL, fail_on="No. 3.")
    reasons = [item.finish_reason for item in engine.generate([request(text) for text in texts])]
    assert reasons == ["stop", "stop", "stop", "error", "stop", "stop"]


def test_a_prompt_from_outside_the_world_is_an_error_completion() -> None:
    (completion,) = ScriptedEngine("ada", POOL).generate([request("What is love?")])
    assert completion.finish_reason == "error"
    assert "What is love?" in str(completion.error)


def test_a_stranger_is_refused() -> None:
    with pytest.raises(PoolMismatchError, match="'dora'"):
        ScriptedEngine("dora", POOL)
