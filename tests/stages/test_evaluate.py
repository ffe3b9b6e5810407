"""Evaluate: greedy answers of a student, each with its verdict."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.transformers import TransformersEngine
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import ExactMatchConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.stages.evaluate import Evaluate, student_as_teacher
from persyn_ray.storage.schemas import EVALUATIONS

Prompts = Callable[..., pa.Table]


def test_a_student_is_decoded_greedily_within_its_tokens() -> None:
    section = EvaluateConfig.model_validate({"max_tokens": 7, "batch_size": 3})
    teacher = student_as_teacher("before", StudentConfig(name="m"), section)
    assert (teacher.sampling.max_tokens, teacher.sampling.temperature) == (7, 0.0)


def test_every_problem_is_answered_and_checked_the_same_way_each_time(
    random_llama: str, prompts: Prompts
) -> None:
    section = EvaluateConfig.model_validate({"max_tokens": 3})
    check = ExactMatchConfig(kind="exact_match", marker="#")
    evaluate = Evaluate("before", StudentConfig(name=random_llama), section, check)
    problems = prompts(("1+1?", "2"), ("1+2?", "3"))
    table = evaluate(problems)
    assert table.schema == EVALUATIONS
    assert table["prompt_id"].to_pylist() == ["p0", "p1"]
    assert set(table["student"].to_pylist()) == {"before"}
    assert set(table["outcome"].to_pylist()) <= {"correct", "wrong", "no_answer", "no_response"}
    assert 2 <= evaluate.num_tokens <= 6
    assert evaluate(problems) == table


def test_a_students_thinking_is_not_judged(
    random_llama: str, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: TransformersEngine, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("[so #### 5] #### 7", "stop", 1, 1) for _ in requests]

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    responses = ResponsesConfig.model_validate({"think_tags": ["[", "]"]})
    check = ExactMatchConfig(kind="exact_match", marker="####")
    section = EvaluateConfig.model_validate({})
    evaluate = Evaluate("before", StudentConfig(name=random_llama), section, check, responses)
    table = evaluate(prompts(("2+5?", "7"), ("2+3?", "5")))
    assert table["outcome"].to_pylist() == ["correct", "wrong"]
