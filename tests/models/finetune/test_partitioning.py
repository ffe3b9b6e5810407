"""DeepSpeed's configuration: presets, and files that may not set what the recipe sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.models.finetune.partitioning import (
    deepspeed_config,
    offloads,
    partitioning,
    preset_for,
    zero_stage,
)
from persyn_ray.recipe.training import DEEPSPEED_PRESETS


def written(folder: Path, given: Any) -> str:
    path = folder / "ds.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    return str(path)


@pytest.mark.parametrize("name", DEEPSPEED_PRESETS)
def test_a_preset_is_what_its_name_says(name: str) -> None:
    config = deepspeed_config(name)
    assert zero_stage(config) == int(name[4])
    assert offloads(config, "optimizer") == name.endswith("_offload")
    assert offloads(config, "param") == (name == "zero3_offload")
    assert config["train_batch_size"] == "auto"
    # Otherwise a student could not be saved.
    gathered = config["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save", False)
    assert gathered == name.startswith("zero3")


@pytest.mark.parametrize("name", ["zero1", "zero2"])
def test_one_worker_partitions_nothing_in_float32(name: str) -> None:
    assert preset_for(name, 1, "float32") == "zero0"
    assert preset_for(name, 2, "float32") == name
    assert preset_for(name, 1, "bfloat16") == name


@pytest.mark.parametrize("name", ["zero0", "zero2_offload", "zero3", "zero3_offload", "mine.json"])
def test_what_saves_memory_of_one_worker_or_is_the_users_stays(name: str) -> None:
    assert preset_for(name, 1, "float32") == name


def test_memory_is_pinned_for_gpus_alone() -> None:
    pinned, plain = (deepspeed_config("zero2_offload", has_gpus) for has_gpus in (True, False))
    assert pinned["zero_optimization"]["offload_optimizer"]["pin_memory"] is True
    assert plain["zero_optimization"]["offload_optimizer"]["pin_memory"] is False


def test_a_file_is_taken_with_what_the_trainer_fills_in(tmp_path: Path) -> None:
    given = {
        "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/x"}},
        "communication_data_type": "fp32",
        "train_batch_size": "auto",
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}},
    }
    config = deepspeed_config(written(tmp_path, given))
    assert zero_stage(config) == 3
    assert offloads(config, "param")
    assert not offloads(config, "optimizer")
    assert config["communication_data_type"] == "fp32"
    assert config["optimizer"] == given["optimizer"]
    assert config["train_micro_batch_size_per_gpu"] == "auto"
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"train_batch_size": 64}, r"train_batch_size \(64\) beside finetune\.batch_size"),
        ({"bf16": {"enabled": True}}, r"bf16\.enabled \(true\) beside finetune\.dtype"),
        ({"optimizer": {"params": {"lr": 1e-4}}}, r"lr \(0\.0001\) beside .*learning_rate"),
        ({"scheduler": {"type": "WarmupLR"}}, r"scheduler .* beside finetune\.schedule"),
        ({"gradient_clipping": 0.5}, r"beside finetune\.arguments\.max_grad_norm"),
    ],
)
def test_keys_that_clash_with_the_recipe_are_refused_naming_both(
    tmp_path: Path, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        deepspeed_config(written(tmp_path, given))


def test_all_clashes_are_told_at_once(tmp_path: Path) -> None:
    given = {"train_batch_size": 8, "fp16": {"enabled": True}}
    with pytest.raises(ConfigError, match=r"train_batch_size .*; fp16\.enabled"):
        deepspeed_config(written(tmp_path, given))


@pytest.mark.parametrize(("given", "named"), [("{", "is no JSON"), ("[]", "holds no JSON object")])
def test_files_that_are_no_configuration_are_refused(
    tmp_path: Path, given: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        deepspeed_config(written(tmp_path, given))
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        deepspeed_config(str(tmp_path / "none.json"))


def test_what_is_trained_depends_on_what_a_file_holds_and_not_on_its_name(tmp_path: Path) -> None:
    first = partitioning(written(tmp_path, {"zero_optimization": {"stage": 1}}))
    other = partitioning(written(tmp_path, {"zero_optimization": {"stage": 2}}))
    assert first != other
    assert partitioning("zero2") == "zero2"
