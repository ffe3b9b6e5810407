"""Evaluate: greedy answers of a student, each with its verdict."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.transformers import TransformersEngine
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.engines import TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import ExactMatchConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.shards.score import check_of
from persyn_ray.stages.evaluate import Evaluate, student_as_teacher
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.own_parts import own_parts
from persyn_ray.storage.schemas import EVALUATIONS

Prompts = Callable[..., pa.Table]


def test_a_student_is_decoded_greedily_within_its_tokens() -> None:
    section = EvaluateConfig.model_validate({"max_tokens": 7, "batch_size": 3})
    teacher = student_as_teacher("before", StudentConfig(name="m"), section)
    assert (teacher.sampling.max_tokens, teacher.sampling.temperature) == (7, 0.0)
    ended = student_as_teacher("before", StudentConfig(name="m", end_of_turn="<e>"), section)
    assert isinstance(ended.engine, TransformersEngineConfig)
    assert ended.engine.end_of_turn == "<e>"


def test_a_student_is_sampled_by_vllm_where_the_recipe_says_so() -> None:
    engine = {"kind": "vllm", "max_model_len": 900, "resources": {"tensor_parallel": 4}}
    section = EvaluateConfig.model_validate(
        {"engine": engine, "temperature": 0.6, "top_p": 0.9, "seed": 3, "max_tokens": 7}
    )
    student = StudentConfig(name="m", end_of_turn="<e>", template_kwargs={"x": 1})
    teacher = student_as_teacher("persyn", student, section)
    assert isinstance(teacher.engine, VllmEngineConfig)
    assert teacher.engine.model.name == "m"
    # On GPUs a student answers in 16 bits, whatever it was scored in.
    assert (teacher.engine.model.dtype, student.dtype) == ("bfloat16", "float32")
    assert (teacher.engine.max_model_len, teacher.engine.end_of_turn) == (900, "<e>")
    sampling = teacher.sampling
    drawn = (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens)
    assert drawn == (0.6, 0.9, 3, 7)
    assert teacher.template_kwargs == {"x": 1}
    assert teacher.resources is not None
    assert teacher.resources.workers == 4


def test_arguments_that_have_a_setting_are_refused() -> None:
    engine = {"kind": "vllm", "arguments": {"tensor_parallel_size": 2}}
    with pytest.raises(ValueError, match=r"\['tensor_parallel_size'\] have settings of their own"):
        EvaluateConfig.model_validate({"engine": engine})


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


OWN = """
def share(rows, points=1.0):
    return [points if row["reference"] in row["response"] else 0.0 for row in rows]
"""


@pytest.fixture
def own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `my_checks` in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))  # which loading adds the folder to
    (tmp_path / "my_checks.py").write_text(OWN)
    return tmp_path / "my_checks.py"


def answering_seven(
    monkeypatch: pytest.MonkeyPatch, student: str, section: EvaluateConfig
) -> Evaluate:
    def generate(self: TransformersEngine, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("It is 7.", "stop", 1, 1) for _ in requests]

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    assert section.check is not None
    return Evaluate("before", StudentConfig(name=student), section, section.check)


@pytest.mark.parametrize("processes", [0, 1])
def test_answers_are_checked_by_a_function_of_ones_own(
    random_llama: str,
    prompts: Prompts,
    own_check: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    check = {"kind": "python", "function": "my_checks:share", "processes": processes}
    section = EvaluateConfig.model_validate({"check": check | {"settings": {"points": 0.5}}})
    evaluate = answering_seven(monkeypatch, random_llama, section)
    table = evaluate(prompts(("2+5?", "7"), ("2+3?", "5")))
    assert table["correct"].to_pylist() == [0.5, 0.0]
    evaluate.close()


def test_a_function_whose_values_are_no_shares_is_refused(
    random_llama: str, prompts: Prompts, own_check: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = {"kind": "python", "function": "my_checks:share", "settings": {"points": 3}}
    evaluate = answering_seven(
        monkeypatch, random_llama, EvaluateConfig.model_validate({"check": check})
    )
    with pytest.raises(StepError, match=r"'my_checks:share' gives 3 for the answer to prompt p0"):
        evaluate(prompts(("2+5?", "7")))


def test_changed_code_of_a_check_evaluates_anew_and_nothing_else(
    make_recipe: Callable[..., Recipe], own_check: Path
) -> None:
    def identities() -> tuple[Recipe, dict[str, str]]:
        check = {"kind": "python", "function": "my_checks:share"}
        recipe = make_recipe({"evaluate.check": check})
        plan = planned_steps(recipe, run_of(recipe))
        return recipe, {planned.step.name: planned.identity for planned in plan}

    recipe, before = identities()
    assert check_of(recipe.evaluate, recipe.scoring) == recipe.evaluate.check
    own_check.write_text(OWN + "# changed\n")
    _, after = identities()
    assert {name for name in before if before[name] != after[name]} == {"evaluate"}
    parts = own_parts(recipe.teachers, recipe.scoring, recipe.evaluate.check)
    assert [part.setting for part in parts] == ["evaluate.check.function"]
    own_check.unlink()
    with pytest.raises(ConfigError, match=r"evaluate\.check\.function"):
        own_parts(recipe.teachers, recipe.scoring, recipe.evaluate.check)
