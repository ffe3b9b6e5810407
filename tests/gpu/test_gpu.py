"""What a machine with GPUs should run first (`make test-gpu`); left out where there is none."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.pipeline.collect import ask
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import parse_recipe
from persyn_ray.runtime.session import session
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
PROMPTS = [f"What is {number} plus {number}?" for number in range(64)]


def collected(folder: Path, resources: dict[str, Any]) -> dict[str, Any]:
    """One vLLM teacher answers all prompts; what step collect counted."""
    (folder / "prompts.jsonl").write_text("\n".join(f'{{"prompt": "{one}"}}' for one in PROMPTS))
    model = {"name": MODEL, "dtype": "bfloat16"}
    teacher = {
        "name": "qwen",
        "engine": {"kind": "vllm", "model": model, "max_model_len": 2048},
        "sampling": {"max_tokens": 64},
        "resources": resources,
    }
    data = {
        "run": str(folder / "run"),
        "student": {"name": MODEL},
        "teachers": [teacher],
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": len(PROMPTS),
            "shard_rows": 16,
        },
        "scoring": {"quality": {"kind": "reward_model", "model": {"name": "random:reward"}}},
        "router": {"backbone": {"name": MODEL}},
    }
    recipe = parse_recipe(data, "test")
    run = run_of(recipe)
    write_record(
        run.records,
        Record("prompts", "x", {}, {}, write_prompts(recipe, run).model_dump(mode="json")),
    )
    with session():
        return ask(recipe, run, "collect", shards_of(run, "parallel"), None, Console(quiet=True))


def test_one_gpu(tmp_path: Path) -> None:
    counts = collected(tmp_path, {})
    assert (counts.rows, counts.errors) == (len(PROMPTS), 0)


def test_two_engines_share_one_gpu(tmp_path: Path) -> None:
    counts = collected(tmp_path, {"gpus": 0.5, "replicas": 2})
    assert (counts.rows, counts.errors) == (len(PROMPTS), 0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("executor", ["ray", "mp"])
@pytest.mark.parametrize("layout", [(2, 1), (1, 2)])
def test_tensor_and_pipeline_parallel(
    tmp_path: Path, executor: str, layout: tuple[int, int]
) -> None:
    tensor, pipeline = layout
    resources = {"tensor_parallel": tensor, "pipeline_parallel": pipeline, "executor": executor}
    counts = collected(tmp_path, resources)
    assert (counts.rows, counts.errors) == (len(PROMPTS), 0)
