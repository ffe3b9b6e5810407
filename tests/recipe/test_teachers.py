"""The `teachers` section: settings that cannot work are refused with the key that is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.engines import OpenAIEngineConfig, VllmEngineConfig
from persyn_ray.recipe.teachers import TeacherConfig, active_teachers

ENDPOINT = {"kind": "openai", "model": "m"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budget": {"tokens": 9}, "engine": {"kind": "scripted"}}, "budget.*openai"),
        ({"budget": {"dollars": 1.0}}, "needs price"),
        ({"sampling": {"max_tokens": 9, "retry_tokens": 9}}, "retry_tokens 9"),
        ({"sampling": {"stop": [""]}}, "stop"),
        ({"resources": {"gpus": 0.5, "tensor_parallel": 2}}, "takes 1 each"),
        ({"resources": {"tensor_parallel": 0}}, "tensor_parallel"),
        ({"name": "../up"}, "name"),
        ({"engine": ENDPOINT | {"base_url": "https://me:secret@host/v1"}}, "api_key_env"),
        ({"resources": {"arguments": {"quantization": "fp8"}}}, "quantization"),
        (
            {"engine": {"kind": "vllm", "model": {"name": "m"}, "arguments": {"seed": 1}}},
            "settings of their own",
        ),
        (
            {
                "engine": {"kind": "transformers", "model": {"name": "m"}},
                "resources": {"tensor_parallel": 2},
            },
            "one worker",
        ),
        ({"engine": {"kind": "scripted"}, "sampling": {"thinking_tokens": 5}}, "thinking_tokens"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){words}"):
        TeacherConfig.model_validate({"name": "t", "engine": ENDPOINT} | changes)


def test_vllm_keeps_models_in_16_bits_unless_told_otherwise() -> None:
    for given, expected in (({}, "bfloat16"), ({"dtype": "float32"}, "float32")):
        engine = {"kind": "vllm", "model": {"name": "m"} | given}
        teacher = TeacherConfig.model_validate({"name": "t", "engine": engine})
        assert isinstance(teacher.engine, VllmEngineConfig)
        assert teacher.engine.model.dtype == expected


def test_an_engine_has_tensor_times_pipeline_workers() -> None:
    given = {"tensor_parallel": 8, "pipeline_parallel": 2}
    engine = {"kind": "vllm", "model": {"name": "m"}}
    teacher = TeacherConfig.model_validate({"name": "t", "engine": engine, "resources": given})
    assert teacher.resources is not None
    assert teacher.resources.workers == 16


@pytest.mark.parametrize(
    ("engine", "given", "gpus", "cpus"),
    [
        (ENDPOINT, {"max_requests": 64}, 0, 0),
        (ENDPOINT, {"gpus": 1, "cpus": 2}, 1, 2),
        (OpenAIEngineConfig.model_validate(ENDPOINT), {"max_requests": 64}, 0, 0),
        ({"kind": "recorded", "path": "p.jsonl"}, {"replicas": 2}, 0, 1),
        ({"kind": "scripted"}, {"gpus": 0.5}, 0.5, 1),
        ({"kind": "python", "factory": "json:loads"}, {}, 0, 1),
        ({"kind": "vllm", "model": {"name": "m"}}, {"replicas": 2}, 1, 1),
        ({"kind": "transformers", "model": {"name": "m"}}, {}, 1, 1),
    ],
)
def test_only_engines_with_a_model_here_take_a_gpu_that_nobody_asked_for(
    engine: Any, given: dict[str, Any], gpus: float, cpus: float
) -> None:
    teacher = TeacherConfig.model_validate({"name": "t", "engine": engine, "resources": given})
    assert teacher.resources is not None
    assert (teacher.resources.gpus, teacher.resources.cpus) == (gpus, cpus)
    again = TeacherConfig.model_validate(teacher.model_dump(mode="json"))
    assert again.resources == teacher.resources


def test_the_retired_are_not_active_and_not_all_can_retire() -> None:
    engine = {"kind": "scripted"}
    pool = [
        TeacherConfig.model_validate({"name": name, "engine": engine, "retired": name == "b"})
        for name in ("a", "b", "c")
    ]
    assert active_teachers(pool) == ("a", "c")
    with pytest.raises(ConfigError, match="at least one"):
        active_teachers(pool[1:2])


def test_a_probe_has_at_least_one_prompt() -> None:
    with pytest.raises(ValidationError, match="num_probe"):
        TeacherConfig.model_validate({"name": "a", "engine": {"kind": "scripted"}, "num_probe": 0})


@pytest.mark.parametrize(
    "base_url",
    [
        "https://host/v1/chat/completions",
        "https://host/v1/completions/",
        "https://host/v1/models",
        "http://host:8000/v1/responses",
    ],
)
def test_the_address_of_one_service_is_refused_with_the_base_address(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url is the address .*: https?://host(:8000)?/v1\b"):
        OpenAIEngineConfig.model_validate({"kind": "openai", "model": "m", "base_url": base_url})
