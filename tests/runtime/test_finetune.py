"""Adapters of students on two Ray Train workers with ZeRO-3: trained, saved whole and merged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from persyn_ray.models.finetune.partitioning import deepspeed_config
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.runtime.session import Cluster
from persyn_ray.runtime.train.training import StudentTraining, finetune
from persyn_ray.storage.fits import read_tuned_student
from persyn_ray.storage.layout import RunLayout

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),  # by PEFT
]
FINETUNE = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "save_steps": 2,
    "deepspeed": "zero3",
    "heldout_fraction": 0.25,
    "keep": "best",
    "lora": {"rank": 4},
}


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(torch.arange(10, 40)[None]).logits


def test_adapters_with_zero_3_on_two_workers_are_left_beside_the_merged_student(
    make_recipe: Callable[..., Recipe],
    carry_out: Callable[..., RunLayout],
    random_llama: str,
    cluster: Cluster,
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = make_recipe(
        {
            "student.name": random_llama,
            "router.backbone.name": random_llama,
            "finetune": FINETUNE,
            "resources.finetune": {"workers": 2, "cpus": 0.5, "max_failures": 0},
        }
    )
    run = carry_out(recipe, until="synthesize")
    resources = recipe.resources.finetune
    partitioned = deepspeed_config("zero3", has_gpus=False)
    training = StudentTraining(
        run, resources, recipe.finetune, partitioned, recipe.student, ("persyn",)
    )
    finetune(training, "test")

    folder = run.student("persyn").local_path
    done = read_tuned_student(run.student("persyn"))
    num = sum(table.num_rows for _, table in run.examples("persyn").tables())
    assert 0 < done.num_heldout < num
    steps = 2 * -(-(num - done.num_heldout) // 8)
    assert (done.num_examples, done.num_steps) == (num, steps)
    measured = {at.step: at.heldout_loss for at in done.loss_curve if at.heldout_loss is not None}
    assert sorted(measured) == sorted({*range(2, steps + 1, 2), steps})
    assert done.kept_step == min(measured, key=lambda step: measured[step])
    load = AutoModelForCausalLM.from_pretrained
    merged, base = logits(load(folder)), logits(load(random_llama))
    adapted = logits(PeftModel.from_pretrained(load(random_llama), str(folder / "adapter")))
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert float((merged - base).abs().max()) > 1e-2
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    assert len(list(run.checkpoints.local_path.rglob("student.json"))) == 1  # the last checkpoint

    (folder / "finetune.json").unlink()  # as if killed while merging
    (trained,) = (run.checkpoints / "adapters").local_path.rglob("adapter_model.safetensors")
    before = trained.stat().st_mtime_ns
    finetune(training, "test")
    assert read_tuned_student(run.student("persyn")) == done
    assert trained.stat().st_mtime_ns == before
