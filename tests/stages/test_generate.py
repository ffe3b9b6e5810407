"""Generate: one row a prompt, whatever becomes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.config import Teacher
from persyn_ray.pool import TeacherPool
from persyn_ray.schemas import RESPONSES
from persyn_ray.stages.generate import Generate

Prompts = Callable[..., pa.Table]


def stage(engine: dict[str, Any], **settings: Any) -> Generate:
    teacher = Teacher.model_validate({"name": "t", "engine": engine} | settings)
    return Generate(teacher, TeacherPool(("t",)))


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "answers.jsonl"
    rows = [{"question": text, "teacher": "t", "response": text.upper()} for text in ("b", "a")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "recorded", "path": str(path)}


def test_every_prompt_has_its_own_answer_and_absent_ones_are_missing(
    recorded: dict[str, Any], prompts: Prompts
) -> None:
    table = stage(recorded)(prompts(("a", None), ("x", None), ("b", None)))
    assert table.schema == RESPONSES
    assert table.select(["prompt_id", "response", "finish_reason"]).to_pylist() == [
        {"prompt_id": "p0", "response": "A", "finish_reason": "stop"},
        {"prompt_id": "p1", "response": None, "finish_reason": "missing"},
        {"prompt_id": "p2", "response": "B", "finish_reason": "stop"},
    ]
    assert set(table["teacher"].to_pylist()) == {"t"}


def test_the_order_of_prompts_changes_no_answer(recorded: dict[str, Any], prompts: Prompts) -> None:
    table = prompts(("a", None), ("x", None), ("b", None))
    generate = stage(recorded)
    backwards = generate(table.take([2, 1, 0])).to_pylist()
    assert backwards[::-1] == generate(table).to_pylist()


def test_a_teacher_that_fails_on_a_prompt_leaves_a_row_that_says_why(prompts: Prompts) -> None:
    table = stage({"kind": "scripted", "fail_on": "No. 1."})(
        prompts(("No. 0. Go.", None), ("No. 1. Go.", None))
    )
    good, bad = table.to_pylist()
    assert good["finish_reason"] == "stop"
    assert (bad["finish_reason"], bad["response"], bad["num_tokens"]) == ("error", None, 0)
    assert "No. 1." in bad["error"]


def test_no_prompts_give_no_rows(recorded: dict[str, Any], prompts: Prompts) -> None:
    assert stage(recorded)(prompts()).num_rows == 0


def test_a_prompt_beyond_the_context_is_refused_and_its_neighbours_are_answered(
    tiny_context: str, prompts: Prompts
) -> None:
    engine = {"kind": "transformers", "model": {"name": tiny_context}}
    generate = stage(engine, sampling={"max_tokens": 3})
    short, long = generate(prompts(("Hi", None), ("x" * 200, None))).to_pylist()
    assert (short["finish_reason"] in ("stop", "length"), short["error"]) == (True, None)
    assert (long["finish_reason"], long["response"]) == ("error", None)
    assert "context of 64" in long["error"]
