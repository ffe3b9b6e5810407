"""The `teachers` section: settings that cannot work are refused with the key that is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.teachers import Teacher

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
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){words}"):
        Teacher.model_validate({"name": "t", "engine": ENDPOINT} | changes)


def test_an_engine_has_tensor_times_pipeline_workers() -> None:
    given = {"tensor_parallel": 8, "pipeline_parallel": 2}
    teacher = Teacher.model_validate({"name": "t", "engine": ENDPOINT, "resources": given})
    assert teacher.resources is not None
    assert teacher.resources.workers == 16
