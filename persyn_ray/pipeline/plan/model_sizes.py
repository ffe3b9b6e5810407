"""Sizes of a model without loading it: parameters, bytes of weights and KV cache.

From `size` of the teacher where it is given, otherwise from what lies on this machine: config.json
and the safetensors index or headers in a folder, in a package, or in the hub's cache. Nothing is
downloaded and no torch is needed. What cannot be told is asked for, never guessed.
"""

import json
from pathlib import Path
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.models.names import in_package
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.engines import TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.teachers import ModelSizeConfig, TeacherConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.scheduling.gpu_memory import ModelSize

BITS: dict[str, float] = {"float32": 32, "bfloat16": 16, "float16": 16}
QUANTIZED_BITS = (
    # Beginnings of vLLM's names; 4-bit weights with their scales and what stays at 16 bits.
    ("modelopt_fp4", 4.5),
    ("mxfp4", 4.5),
    ("awq", 4.5),
    ("gptq", 4.5),
    ("auto_awq", 4.5),
    ("auto_gptq", 4.5),
    ("bitsandbytes", 4.5),
    ("fp8", 8.0),
    ("fbgemm_fp8", 8.0),
    ("ptpc_fp8", 8.0),
    ("modelopt", 8.0),
    ("experts_int8", 8.0),
)
EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")

Config = dict[str, Any]


def model_size(teacher: TeacherConfig) -> ModelSize:
    """What a local teacher's model weighs.

    Raises:
        ConfigError: the files are not at hand, or do not say enough; the message asks for `size`.
    """
    engine = teacher.engine
    assert isinstance(engine, VllmEngineConfig | TransformersEngineConfig)
    cache = _cache_bytes(teacher)
    if teacher.size is not None:
        return _given(teacher, teacher.size, cache)
    folder = local_folder(engine.model)
    if folder is None or not (folder / "config.json").is_file():
        raise _ask(teacher, "its files are not on this machine")
    try:
        return _read(teacher, folder, cache)
    except (KeyError, TypeError, ValueError) as error:
        raise _ask(teacher, f"{folder} does not tell it ({error})") from error


def local_folder(model: ModelConfig) -> Path | None:
    """Where a model lies on this machine, or None; a name on the hub is looked up in its cache."""
    if model.name.startswith("random:"):
        return None
    if model.name.startswith("package:"):
        return in_package(model.name.removeprefix("package:"))
    path = Path(model.name).expanduser()
    if path.exists():
        return path
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:  # not part of the base installation
        return None
    try:
        found = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def known_parameters(model: ModelConfig) -> float | None:
    """Parameters of a model whose files are on this machine and tell them; else None."""
    folder = local_folder(model)
    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        whole: Config = json.loads((folder / "config.json").read_text("utf-8"))
        stored = _stored_bytes(folder)
        if stored is not None:
            return stored * 8 / _bits_stored(whole)
        return count_parameters(whole.get("text_config") or whole)
    except (KeyError, TypeError, ValueError):
        return None


def settled(finetune: FinetuneConfig, student: ModelConfig) -> FinetuneConfig:
    """Settings of fine-tuning whose `lora` is no longer auto: by the student's size, which is
    fetched (config.json alone) where it is not on this machine."""
    if finetune.lora != "auto":
        return finetune
    parameters = 0.0 if student.name.startswith("random:") else known_parameters(student)
    if parameters is None:
        from persyn_ray.models.load import load_config

        config = load_config(student.name, student.revision, student.trust_remote_code)
        parameters = count_parameters(config.get_text_config().to_dict())
    return finetune.model_copy(update={"lora": finetune.adapters(parameters)})


def _ask(teacher: TeacherConfig, why: str) -> ConfigError:
    assert isinstance(teacher.engine, VllmEngineConfig | TransformersEngineConfig)
    return ConfigError(
        f"The size of teacher {teacher.name!r} ({teacher.engine.model.name}) is not known: {why}. "
        "Give `size` for this teacher (parameters, layers, kv_heads, head_dim, context), as its "
        "config.json on the hub has them, or download the model."
    )


def arguments_of(teacher: TeacherConfig) -> dict[str, Any]:
    """What a teacher gives to vLLM's engine."""
    shaping = teacher.engine.arguments if isinstance(teacher.engine, VllmEngineConfig) else {}
    return {**shaping, **(teacher.resources.arguments if teacher.resources else {})}


def _cache_bytes(teacher: TeacherConfig) -> float:
    """Bytes of one number in the cache."""
    if str(arguments_of(teacher).get("kv_cache_dtype", "auto")).startswith("fp8"):
        return 1.0
    assert isinstance(teacher.engine, VllmEngineConfig | TransformersEngineConfig)
    return BITS[teacher.engine.model.dtype] / 8


def quantized_bits(name: str | None) -> float | None:
    """Bits of a weight under one of vLLM's methods, where the name tells them."""
    if name is None:
        return None
    return next((bits for start, bits in QUANTIZED_BITS if name.startswith(start)), None)


def _bits_asked(teacher: TeacherConfig) -> float:
    """Bits of a weight in memory, where the files are not quantized already."""
    engine = teacher.engine
    assert isinstance(engine, VllmEngineConfig | TransformersEngineConfig)
    method = engine.quantization if isinstance(engine, VllmEngineConfig) else None
    return quantized_bits(method) or BITS[engine.model.dtype]


def _given(teacher: TeacherConfig, size: ModelSizeConfig, cache: float) -> ModelSize:
    parameters = size.parameters * 1e9
    bits = size.bits or _bits_asked(teacher)
    return ModelSize(
        parameters=parameters,
        active=parameters if size.active is None else size.active * 1e9,
        weight_bytes=parameters * bits / 8,
        cache_bytes=2 * size.layers * size.kv_heads * size.head_dim * cache,
        kv_heads=size.kv_heads,
        context=size.context,
    )


def _read(teacher: TeacherConfig, folder: Path, cache: float) -> ModelSize:
    whole: Config = json.loads((folder / "config.json").read_text("utf-8"))
    config: Config = whole.get("text_config") or whole
    parameters, weights = _weights(teacher, folder, whole, config)
    heads, width = _cache_shape(config)
    return ModelSize(
        parameters=parameters,
        active=parameters,  # experts: an upper bound, so that no forecast is too fast
        weight_bytes=weights,
        cache_bytes=width * config["num_hidden_layers"] * cache,
        kv_heads=heads,
        context=int(config["max_position_embeddings"]),
    )


def _weights(
    teacher: TeacherConfig, folder: Path, whole: Config, config: Config
) -> tuple[float, float]:
    """Parameters, and bytes of the weights in memory."""
    stored, bits = _stored_bytes(folder), _bits_stored(whole)
    is_quantized = bool(whole.get("quantization_config"))
    if stored is not None:
        parameters = stored * 8 / bits
    elif any(config.get(name) for name in EXPERTS):
        raise ValueError("there are no weights, and config.json does not count experts")
    else:
        parameters = count_parameters(config)
    return parameters, parameters * (bits if is_quantized else _bits_asked(teacher)) / 8


def _cache_shape(config: Config) -> tuple[int, int]:
    """KV heads, and numbers that a token leaves in the cache of one layer."""
    if "kv_lora_rank" in config:  # latent attention: one vector, copied by every worker
        return 1, config["kv_lora_rank"] + config["qk_rope_head_dim"]
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return heads, 2 * heads * _head_dim(config)


def _head_dim(config: Config) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def count_parameters(config: Config) -> float:
    """Parameters of a dense decoder of the usual shape, norms and biases left out."""
    hidden, head_dim = config["hidden_size"], _head_dim(config)
    queries = config["num_attention_heads"] * head_dim
    keys = (config.get("num_key_value_heads") or config["num_attention_heads"]) * head_dim
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * config["intermediate_size"]
    tables = 1 if config.get("tie_word_embeddings") else 2
    return float(config["num_hidden_layers"] * layer + tables * config["vocab_size"] * hidden)


def _bits_stored(config: Config) -> float:
    quantized = config.get("quantization_config")
    if quantized:
        method = str(quantized.get("quant_method", ""))
        return float(quantized.get("bits") or quantized_bits(method) or 8)
    text: Config = config.get("text_config") or config
    name = text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype") or "bfloat16"
    return BITS[name]


def _stored_bytes(folder: Path) -> float | None:
    """Bytes of all weights by the index, or else by the files' headers."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        total = json.loads(index.read_text("utf-8")).get("metadata", {}).get("total_size")
        if total:
            return float(total)
    files = sorted(folder.glob("*.safetensors"))
    return float(sum(map(_tensor_bytes, files))) if files else None


def _tensor_bytes(file: Path) -> int:
    """The end of the last tensor, which the header of a safetensors file names."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(length))
    ends = (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    return max(ends, default=0)
