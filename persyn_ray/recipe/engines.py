"""Engines of a recipe's teachers: what writes, by `engine.kind`, and its settings.

What shapes a response is part of its identity; what only carries a request out (an endpoint's
address, key, time limit and attempts, a batch's size) is not.
"""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from persyn_ray.credentials import is_variable_name, looks_like_key
from persyn_ray.recipe.base import ModelConfig, Section
from persyn_ray.recipe.own_code import PythonEngineConfig
from persyn_ray.recipe.reading.short_forms import long_model

# Arguments of vLLM's engine that have a setting of their own, or shape responses.
SETTINGS = frozenset(
    {
        "model",
        "tokenizer",
        "revision",
        "dtype",
        "trust_remote_code",
        "quantization",
        "max_model_len",
        "seed",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "distributed_executor_backend",
    }
)
SHAPING = frozenset({"kv_cache_dtype", "hf_overrides", "generation_config", "reasoning_config"})


class TransformersEngineConfig(Section):
    """A local model run by transformers."""

    kind: Literal["transformers"]
    model: ModelConfig
    batch_size: int = Field(default=64, ge=1)
    """Prompts decoded together, grouped by length."""
    end_of_turn: str | None = None
    """Control token that ends a response, beside those that the model's files name; by default what
    the chat template writes after a response."""


class VllmEngineConfig(Section):
    """A model run by vLLM on the cluster's GPUs (or CPUs)."""

    kind: Literal["vllm"]
    model: ModelConfig
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt + response; the model's own context by default."""
    quantization: str | None = None
    """vLLM's name of the method, such as `fp8`; by default what the model's files say."""
    end_of_turn: str | None = None
    """Control token that ends a response, beside those that the model's files name; by default what
    the chat template writes after a response."""
    arguments: dict[str, Any] = Field(default={})
    """Any further argument of vLLM's engine that shapes responses."""

    @model_validator(mode="before")
    @classmethod
    def _half_precision(cls, data: Any) -> Any:
        """Large models are kept in 16 bits; float32 has to be asked for by name."""
        model = long_model(data.get("model")) if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(model, dict):
            return data | {"model": {"dtype": "bfloat16"} | model}
        return data

    @model_validator(mode="after")
    def _settings_are_settings(self) -> "VllmEngineConfig":
        taken = sorted(SETTINGS & self.arguments.keys())
        if taken:
            raise ValueError(f"arguments {taken} have settings of their own")
        return self


BELOW_BASE = ("/chat/completions", "/completions", "/responses", "/embeddings", "/models")
"""Services of an endpoint, which are no base addresses."""


class OpenAIEngineConfig(Section):
    """A model behind an OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    model: str
    """The model's name at the endpoint."""
    base_url: str = "https://api.openai.com/v1"
    """Address of the endpoint; not part of a response's identity."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key; null for an endpoint without keys."""
    api_key_file: str | None = None
    """File that holds the key (a mounted secret), in place of the variable."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """Wall-clock limit of one attempt."""
    attempts: int = Field(default=8, ge=1)
    """Attempts at one prompt before it is left for the next run."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Longer prompts (by a bound of four bytes a token) are not sent."""
    extra_body: dict[str, Any] = Field(default={})
    """Further fields of every request, such as a reasoning effort."""

    @field_validator("base_url")
    @classmethod
    def _no_secrets(cls, base_url: str) -> str:
        """An address is written into the run folder; a key must not be in it."""
        parts = urlsplit(base_url)
        if "@" in parts.netloc or parts.query or parts.fragment or looks_like_key(parts.path):
            raise ValueError(
                "an address with a user, a password, a query, a fragment or what looks like a key "
                "would be stored with the run; use api_key_env or api_key_file"
            )
        for path in BELOW_BASE:
            if parts.path.rstrip("/").endswith(path):
                whole = base_url.rstrip("/")
                raise ValueError(
                    f"{base_url!r} is one service of an endpoint; base_url is the address that all "
                    f"of them begin with: {whole.removesuffix(path)}"
                )
        return base_url

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        return None if name is None else variable_name(name)

    @field_validator("api_key_file")
    @classmethod
    def _names_a_file(cls, path: str | None) -> str | None:
        return None if path is None else file_name(path)


def variable_name(name: str) -> str:
    """The name of an environment variable, refused without repeating it: it may be the key."""
    if not is_variable_name(name):
        raise ValueError(
            "is no name of an environment variable; it holds the name, such as OPENAI_API_KEY, and "
            "never the key itself"
        )
    return name


def file_name(path: str) -> str:
    """The path of a file, refused without repeating it where it looks like a key."""
    if "/" not in path and looks_like_key(path):
        raise ValueError("looks like a key; it holds the path of a file with the key in it")
    return path


class RecordedEngineConfig(Section):
    """Answers read from a table of parallel responses."""

    kind: Literal["recorded"]
    path: str
    """Parquet, jsonl or csv files: a path or a glob."""
    teacher: str | None = Field(default=None, coerce_numbers_to_str=True)
    """Value of the teacher column to take, compared as text; the teacher's name by default."""
    prompt_column: str = "question"
    teacher_column: str = "teacher"
    response_column: str = "response"
    finish_reason_column: str | None = None
    """Column that says how a response ended: stop, length or a server's word for it. What it does
    not say, and every response without this setting, counts as complete."""


class ScriptedEngineConfig(Section):
    """A planted world whose truth is known; for tests and simulation only."""

    kind: Literal["scripted"]
    num_tasks: int = 4
    seed: int = 0
    fail_on: str | None = None
    """Prompts that contain this text make the engine fail (a fault to test with)."""


Engine = Annotated[
    TransformersEngineConfig
    | VllmEngineConfig
    | OpenAIEngineConfig
    | RecordedEngineConfig
    | ScriptedEngineConfig
    | PythonEngineConfig,
    Field(discriminator="kind"),
]
