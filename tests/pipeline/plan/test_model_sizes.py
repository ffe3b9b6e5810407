"""What a model weighs, from the recipe, from a folder, from the hub's cache; and what is asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.model_sizes import count_parameters, local_folder, model_size
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.teachers import TeacherConfig

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 100,
    "dtype": "bfloat16",
}
SIZE = {"parameters": 70.0, "layers": 80, "kv_heads": 8, "head_dim": 128, "context": 8192}


def teacher(name: str, dtype: str = "bfloat16", **changes: Any) -> TeacherConfig:
    engine = {"kind": "vllm", "model": {"name": name, "dtype": dtype}} | changes.pop("engine", {})
    return TeacherConfig.model_validate({"name": "a", "engine": engine, **changes})


def write_config(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def write_index(folder: Path, total: int) -> None:
    index = {"metadata": {"total_size": total}, "weight_map": {}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_size_in_the_recipe_by_hand() -> None:
    found = model_size(teacher("nowhere/x", size=SIZE))
    assert found.parameters == found.active == 70e9
    assert found.weight_bytes == 140e9
    assert found.cache_bytes == 2 * 80 * 8 * 128 * 2
    assert (found.kv_heads, found.context) == (8, 8192)


@pytest.mark.parametrize(
    ("engine", "bits"),
    [
        ({}, 16),
        ({"quantization": "fp8"}, 8),
        ({"quantization": "awq"}, 4.5),
        ({"quantization": "gptq_marlin"}, 4.5),
        ({"quantization": "unheard-of"}, 16),
    ],
)
def test_quantization_shrinks_weights(engine: dict[str, Any], bits: float) -> None:
    found = model_size(teacher("nowhere/x", size=SIZE, engine=engine))
    assert found.weight_bytes == pytest.approx(70e9 * bits / 8)


def test_bits_and_experts_may_be_given_and_the_cache_may_be_smaller() -> None:
    given = SIZE | {"bits": 4.25, "active": 12.0}
    engine = {"arguments": {"kv_cache_dtype": "fp8_e4m3"}}
    found = model_size(teacher("nowhere/x", size=given, engine=engine))
    assert found.weight_bytes == pytest.approx(70e9 * 4.25 / 8)
    assert found.active == 12e9
    assert found.cache_bytes == 2 * 80 * 8 * 128
    assert model_size(teacher("nowhere/x", "float32", size=SIZE)).weight_bytes == 280e9


def test_a_folder_tells_its_size_by_the_index(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model")
    write_index(folder, 4_000_000)
    found = model_size(teacher(str(folder)))
    assert (found.parameters, found.weight_bytes) == (2_000_000, 4_000_000)
    assert found.cache_bytes == 2 * 2 * 2 * 16 * 2
    assert (found.kv_heads, found.context) == (2, 512)
    assert model_size(teacher(str(folder), "float32")).weight_bytes == 8_000_000


def test_or_by_the_headers_of_its_files(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", dtype="float32")
    save_file({"a": np.zeros((10, 20), np.float32)}, folder / "model-1.safetensors")
    save_file({"b": np.zeros(50, np.float32)}, folder / "model-2.safetensors", {"format": "pt"})
    found = model_size(teacher(str(folder)))
    assert (found.parameters, found.weight_bytes) == (250, 500)


def test_or_by_its_shape_alone(tmp_path: Path) -> None:
    found = model_size(teacher(str(write_config(tmp_path / "model"))))
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
    assert found.parameters == 2 * layer + 2 * 100 * 64


def test_quantized_files_weigh_what_they_hold(tmp_path: Path) -> None:
    quantized = {"quant_method": "fp8"}
    folder = write_config(tmp_path / "model", quantization_config=quantized)
    write_index(folder, 1_000_000)
    found = model_size(teacher(str(folder)))
    assert (found.parameters, found.weight_bytes) == (1_000_000, 1_000_000)
    write_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert model_size(teacher(str(folder))).weight_bytes == 1_000_000


def test_latent_attention_leaves_one_vector(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", kv_lora_rank=512, qk_rope_head_dim=64)
    found = model_size(teacher(str(folder)))
    assert (found.cache_bytes, found.kv_heads) == (576 * 2 * 2, 1)


def test_the_counted_shape_is_near_what_models_say() -> None:
    # Public figures: Llama-3.1-8B has 8.03e9 parameters, Qwen2.5-3B (tied tables) 3.09e9.
    llama = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    qwen = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }
    assert count_parameters(llama) == pytest.approx(8.03e9, rel=0.002)
    assert count_parameters(qwen) == pytest.approx(3.09e9, rel=0.002)


def test_a_package_and_the_hub_s_cache_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local_folder(ModelConfig(name="package:persyn_ray/lab")) is not None
    assert local_folder(ModelConfig(name="random:llama")) is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert local_folder(ModelConfig(name="some/model")) is None
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    write_config(snapshot)
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert local_folder(ModelConfig(name="some/model")) == snapshot
    assert model_size(teacher("some/model")).context == 512


@pytest.mark.parametrize("name", ["nowhere/model", "random:llama"])
def test_a_model_that_is_not_there_is_asked_for_by_teacher_and_key(name: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher 'a' .*not on this machine.*Give `size`"):
        model_size(teacher(name))


def test_a_folder_that_does_not_tell_is_asked_for_too(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "experts", num_local_experts=8)
    with pytest.raises(ConfigError, match=r"experts.*Give `size`"):
        model_size(teacher(str(folder)))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"does not tell it.*Give `size`"):
        model_size(teacher(str(folder)))
