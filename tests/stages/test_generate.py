"""Generate: one row a prompt, whatever becomes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.engines.base import Completion, Request
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import SamplingConfig, TeacherConfig
from persyn_ray.stages.generate import Generate
from persyn_ray.storage.schemas import RESPONSES

Prompts = Callable[..., pa.Table]


def stage(engine: dict[str, Any], loop_repeats: int | None = None, **settings: Any) -> Generate:
    teacher = TeacherConfig.model_validate({"name": "t", "engine": engine} | settings)
    responses = ResponsesConfig.model_validate({"loop_repeats": loop_repeats})
    return Generate(teacher, TeacherPool(("t",)), responses)


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


def test_a_circle_is_marked_and_its_text_kept_however_it_ended(
    tmp_path: Path, prompts: Prompts
) -> None:
    circle = "Let me see. " + "Wait, once more. " * 30
    ends = {"a": (circle, "stop"), "b": (circle, "length"), "c": ("4, then", "length")}
    rows = [
        {"question": name, "teacher": "t", "response": text, "end": end}
        for name, (text, end) in ends.items()
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = {"kind": "recorded", "path": str(path), "finish_reason_column": "end"}
    asked = prompts(*((name, None) for name in ends))
    marked = stage(engine, loop_repeats=8)(asked)
    assert marked["finish_reason"].to_pylist() == ["loop", "loop", "length"]
    assert marked["response"].to_pylist() == [text for text, _ in ends.values()]
    for unmarked in (stage(engine, loop_repeats=31)(asked), stage(engine)(asked)):
        assert unmarked["finish_reason"].to_pylist() == ["stop", "length", "length"]


def test_a_cut_response_is_asked_for_once_more_with_more_tokens_and_both_are_paid(
    random_llama: str, prompts: Prompts
) -> None:
    engine = {"kind": "transformers", "model": {"name": random_llama}}
    asked = prompts(("Hi", None), ("Why is that so?", None))
    short = stage(engine, sampling={"max_tokens": 4})(asked).to_pylist()
    long = stage(engine, sampling={"max_tokens": 9})(asked).to_pylist()
    again = stage(engine, sampling={"max_tokens": 4, "retry_tokens": 9})(asked).to_pylist()
    for row, first, second in zip(again, short, long, strict=True):
        assert first["finish_reason"] == "length"
        assert row["response"] == second["response"]
        assert row["finish_reason"] == second["finish_reason"]
        for name in ("num_tokens", "num_prompt_tokens"):
            assert row[name] == first[name] + second[name]


class Teller:
    """An engine that tells how it was asked; its first answers are cut but for prompt p0's."""

    overlaps = False

    def __init__(self, later: Completion, text: str = "cut sho") -> None:
        self.text, self.later, self.asked = text, later, list[tuple[str, int | None]]()

    def check(self) -> None: ...

    def close(self) -> None: ...

    def refuses(self, request: Request) -> str | None: ...

    def generate(self, requests: list[Request]) -> list[Completion]:
        self.asked += [(request.prompt_id, request.max_tokens) for request in requests]
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        if request.prompt_id == "p0":
            return Completion("whole", "stop", 1, 10)
        return self.later if request.max_tokens else Completion(self.text, "length", 1, 10)


def told(prompts: Prompts, engine: Teller) -> list[dict[str, Any]]:
    generate = stage({"kind": "scripted"}, loop_repeats=8)
    generate.teacher = generate.teacher.model_copy(
        update={"sampling": SamplingConfig.model_validate({"max_tokens": 10, "retry_tokens": 20})}
    )
    generate.engine = engine
    return generate(prompts(("a", None), ("b", None), ("c", None))).to_pylist()


def test_only_cut_responses_are_asked_for_again_and_only_once(prompts: Prompts) -> None:
    engine = Teller(Completion("still cut", "length", 1, 20))
    rows = told(prompts, engine)
    once, again = [("p0", None), ("p1", None), ("p2", None)], [("p1", 20), ("p2", 20)]
    assert engine.asked == once + again
    assert [row["response"] for row in rows] == ["whole", "still cut", "still cut"]
    assert [row["finish_reason"] for row in rows] == ["stop", "length", "length"]
    assert [row["num_tokens"] for row in rows] == [10, 30, 30]


def test_a_circle_is_not_asked_for_again(prompts: Prompts) -> None:
    engine = Teller(Completion("never", "stop", 1, 20), text="so " * 100)
    assert [row["finish_reason"] for row in told(prompts, engine)] == ["stop", "loop", "loop"]
    assert len(engine.asked) == 3


def test_a_cut_response_outlives_a_second_attempt_that_fails(prompts: Prompts) -> None:
    _, row, _ = told(prompts, Teller(Completion.failed("too long")))
    assert (row["response"], row["finish_reason"]) == ("cut sho", "length")
    assert (row["num_tokens"], row["error"]) == (10, "too long")


def test_a_cut_response_is_not_final_while_the_second_attempt_cannot_be_made(
    prompts: Prompts,
) -> None:
    _, row, _ = told(prompts, Teller(Completion.unavailable("the endpoint is down")))
    assert (row["response"], row["finish_reason"]) == (None, "unavailable")
    assert row["error"] == "the endpoint is down"


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


def test_half_a_surrogate_pair_in_a_response_ends_no_step(tmp_path: Path, prompts: Prompts) -> None:
    path = tmp_path / "recorded.jsonl"
    halves = r"half \ud83d pair"
    path.write_text(
        "".join(
            json.dumps({"question": text, "teacher": "t", "response": "x"}).replace('"x"', said)
            + "\n"
            for text, said in (("a", f'"{halves}"'), ("b", '"whole"'))
        )
    )
    engine = {"kind": "recorded", "path": str(path)}
    teacher = TeacherConfig.model_validate({"name": "t", "engine": engine})
    table = Generate(teacher, TeacherPool(("t",)))(prompts(("a", None), ("b", None)))
    assert table["response"].to_pylist() == ["half \ufffd pair", "whole"]
