"""DeepSpeed's configuration for fine-tuning: a preset's name or a JSON file of the user in, a dict
out.

"auto" is filled in by the Trainer from the recipe. What the recipe sets itself a file may leave out
or give as "auto", and nothing else.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.recipe.training import DEEPSPEED_PRESETS, FinetuneConfig

DeepspeedConfig = dict[str, Any]

SET_BY_RECIPE: dict[str, str] = {
    "train_batch_size": "finetune.batch_size",
    "train_micro_batch_size_per_gpu": "finetune.micro_batch_size",
    "gradient_accumulation_steps": "finetune.batch_size",
    "gradient_clipping": "finetune.arguments.max_grad_norm",
    "bf16.enabled": "finetune.dtype",
    "fp16.enabled": "finetune.dtype",
    "optimizer.params.lr": "finetune.learning_rate",
    "optimizer.params.weight_decay": "finetune.weight_decay",
    "scheduler": "finetune.schedule and finetune.warmup_ratio",
}
"""Keys of DeepSpeed's, and the settings of the recipe that they would clash with."""

BASE: DeepspeedConfig = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    # torch's AdamW is used: DeepSpeed's own compiles C++ at the first start.
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "steps_per_print": 1 << 30,
}


def deepspeed_config(name: str, has_gpus: bool = True) -> DeepspeedConfig:
    """The configuration of `finetune.deepspeed`; memory of the host is pinned for GPUs alone.

    Raises:
        ConfigError: the file is not there, is no JSON object, or sets what the recipe sets.
    """
    if name in DEEPSPEED_PRESETS:
        stage, is_offloaded = DEEPSPEED_PRESETS[name]
        host = {"device": "cpu", "pin_memory": has_gpus} if is_offloaded else None
        return BASE | {"zero_optimization": _zero(stage, host)}
    return BASE | _read(Path(name))


def preset_for(name: str, num_workers: int, dtype: str) -> str:
    """The preset that trains the same student at the least cost: with one worker in float32 nothing
    is partitioned.

    Stages 1 and 2 copy every gradient into a buffer and the weights into one more set of them,
    which one worker holds all by itself; only bfloat16 needs such a set.
    """
    is_alone = num_workers == 1 and dtype == "float32"
    return "zero0" if is_alone and name in ("zero1", "zero2") else name


def partitioned_for(config: FinetuneConfig, resources: TrainResourcesConfig) -> DeepspeedConfig:
    """The configuration of a recipe's fine-tuning on its workers.

    Raises:
        ConfigError: see `deepspeed_config`.
    """
    preset = preset_for(config.deepspeed, resources.most, config.dtype)
    return deepspeed_config(preset, resources.gpus > 0)


def partitioning(name: str) -> str | DeepspeedConfig:
    """What `finetune.deepspeed` says: a preset's name, or what its file holds.

    Raises:
        ConfigError: see `deepspeed_config`.
    """
    return name if name in DEEPSPEED_PRESETS else deepspeed_config(name)


def zero_stage(config: Mapping[str, Any]) -> int:
    """What a configuration partitions: 0 nothing, 1 the optimiser's state, 2 gradients as well, 3
    weights as well."""
    return int(config.get("zero_optimization", {}).get("stage", 0))


def offloads(config: Mapping[str, Any], what: Literal["optimizer", "param"]) -> bool:
    """Whether the optimiser's state, or the weights, lie outside the GPU."""
    of = config.get("zero_optimization", {}).get(f"offload_{what}") or {}
    return of.get("device", "none") != "none"


def _zero(stage: int, host: Mapping[str, object] | None) -> dict[str, object]:
    zero: dict[str, object] = {"stage": stage}
    if host is not None:
        zero["offload_optimizer"] = dict(host)
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if host is not None:
            zero["offload_param"] = dict(host)
    return zero


def _read(path: Path) -> DeepspeedConfig:
    try:
        given: Any = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"finetune.deepspeed: {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"finetune.deepspeed: {path} is no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise ConfigError(f"finetune.deepspeed: {path} holds no JSON object.")
    if clashes := list(_clashes(given)):
        raise ConfigError(
            f"finetune.deepspeed: {path} sets what the recipe sets: {'; '.join(clashes)}. Leave "
            'these out of the file, or give them as "auto".'
        )
    if zero_stage(given) == 3:  # otherwise no student could be saved
        given["zero_optimization"] = {
            **given["zero_optimization"],
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return given


def _clashes(given: Mapping[str, Any]) -> Iterator[str]:
    for key, setting in SET_BY_RECIPE.items():
        value: Any = given
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and value != "auto":
            yield f"{key} ({json.dumps(value)}) beside {setting}"
