"""What the harness's vLLM back end is handed, by a stand-in with the harness's own signatures.

The signatures are those of lm_eval: `simple_evaluate` builds the model that is named from
`model_args` and the batch size, and vLLM's takes what it does not know on to the engine.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from persyn_ray.errors import StepError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.students.harness import EvaluateByHarness, metrics_of
from persyn_ray.shards.units import Unit

Make = Callable[..., Recipe]


@dataclass
class StandIn:
    """The harness, noting what its model and its tasks are asked for."""

    model: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    def vllm(
        self,
        pretrained: str,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        batch_size: str | int = "auto",
        max_model_len: int | None = None,
        enable_thinking: bool | None = None,
        chat_template_args: dict[str, Any] | None = None,
        think_end_token: str | None = None,
        **engine: Any,
    ) -> None:
        self.model = {name: value for name, value in locals().items() if name != "self"}
        if (chat_template_args or {}).get("enable_thinking") and think_end_token is None:
            raise ValueError("think_end_token is required")

    def simple_evaluate(
        self,
        model: str,
        model_args: dict[str, Any],
        tasks: list[str],
        num_fewshot: int | None = None,
        batch_size: int | str | None = None,
        limit: int | float | None = None,
        system_instruction: str | None = None,
        apply_chat_template: bool | str = False,
        gen_kwargs: str | dict[str, Any] | None = None,
        task_manager: Any = None,
    ) -> dict[str, Any]:
        assert model == "vllm"
        self.vllm(**model_args, batch_size=batch_size or 1)
        self.asked = {"tasks": tasks, "limit": limit, "templated": apply_chat_template}
        samples = [{"doc": {"question": "1+1"}, "exact_match": 1.0}]
        return {"results": {tasks[0]: {"exact_match,none": 1.0}}, "samples": {tasks[0]: samples}}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made, package, tasks = StandIn(), ModuleType("lm_eval"), ModuleType("lm_eval.tasks")

    class TaskManager:
        all_tasks = ("made_up",)

        def __init__(self, include_path: str | None = None) -> None: ...

        def match_tasks(self, names: list[str]) -> list[str]:
            return []

    package.simple_evaluate = made.simple_evaluate  # pyright: ignore[reportAttributeAccessIssue]
    tasks.TaskManager = TaskManager  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    return made


def asking(make_recipe: Make, student: str, **changes: Any) -> Recipe:
    section = {"tasks": ["made_up"], "backend": "vllm", "limit": 2}
    arguments = changes.pop("arguments", {"max_model_len": 512, "enforce_eager": True})
    given = {"evaluate.lm_eval": section | {"arguments": arguments}, "student.name": student}
    return make_recipe(given | changes)


def test_vllm_is_handed_the_students_folder_and_the_recipes_arguments(
    make_recipe: Make, random_llama: str, harness: StandIn
) -> None:
    recipe = asking(make_recipe, random_llama, **{"student.dtype": "bfloat16"})
    work = EvaluateByHarness(recipe)
    assert work(Unit(shard="", student="before")).rows == 1
    given = harness.model
    assert (Path(given["pretrained"]) / "config.json").is_file()  # no name that vLLM would look up
    assert (given["dtype"], given["trust_remote_code"]) == ("bfloat16", False)
    assert (given["batch_size"], given["max_model_len"]) == ("auto", 512)
    assert given["engine"] == {"enforce_eager": True}
    assert given["chat_template_args"] is None
    assert harness.asked == {"tasks": ["made_up"], "limit": 2, "templated": True}
    assert metrics_of(work.run, "before") == {"made_up": {"exact_match": 1.0}}


def test_vllm_asks_through_the_template_as_the_student_was_tuned(
    make_recipe: Make, random_llama: str, harness: StandIn
) -> None:
    off = asking(
        make_recipe, random_llama, **{"student.template_kwargs": {"enable_thinking": False}}
    )
    EvaluateByHarness(off)(Unit(shard="", student="before"))
    assert harness.model["chat_template_args"] == {"enable_thinking": False}
    on = {"student.template_kwargs": {"enable_thinking": True}}
    with pytest.raises(StepError, match=r"think_end_token is required.*evaluate\.lm_eval"):
        EvaluateByHarness(asking(make_recipe, random_llama, **on))(Unit(shard="", student="before"))
    told = asking(make_recipe, random_llama, arguments={"think_end_token": "</think>"}, **on)
    EvaluateByHarness(told)(Unit(shard="", student="before"))
    assert harness.model["think_end_token"] == "</think>"


def test_an_argument_that_the_back_end_sets_itself_is_told_with_its_setting(
    make_recipe: Make, random_llama: str, harness: StandIn
) -> None:
    twice = asking(make_recipe, random_llama, arguments={"batch_size": 4})
    with pytest.raises(StepError, match=r"batch_size.*See evaluate\.lm_eval"):
        EvaluateByHarness(twice)(Unit(shard="", student="before"))
