"""The `teachers` section of a recipe: who writes, with which engine, how, and on what.

What shapes a response (engine, sampling, system prompt, template) is part of its identity; what
only carries it out (`resources`, `price`, `budget`, `size`, an endpoint's address and key) is not,
so none of it makes a finished response be written again.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.base import Section
from persyn_ray.recipe.engines import SETTINGS, SHAPING, Engine, OpenAIEngineConfig
from persyn_ray.recipe.reading.short_forms import long_teacher, or_text

BYTES_PER_TOKEN = 4  # of text, where no tokenizer counts
LEAST: dict[str, dict[str, float]] = {
    "openai": {"gpus": 0, "cpus": 0},
    "recorded": {"gpus": 0},
    "scripted": {"gpus": 0},
    "python": {"gpus": 0},
}
"""What `resources` are by default where the kind of engine runs no model on this cluster, or does
not say that it does."""
GPU_USE = 0.9  # share of a GPU that engines may fill, where `gpu_memory_utilization` is not given


class SamplingConfig(Section):
    """How a teacher writes."""

    max_tokens: int = Field(default=512, ge=1)
    """Most tokens of one response, its thinking included."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy. The paper's value is not known."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling."""
    seed: int = 0
    """Seed of the draws; a response's identity includes it."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a response; they are not part of it."""
    thinking_tokens: int | None = Field(default=None, ge=1)
    """Most tokens between the think tags; then the answer is asked for (engines vllm, openai)."""
    retry_tokens: int | None = Field(default=None, ge=1)
    """A response cut by `max_tokens` is asked for once more with this many tokens."""

    @model_validator(mode="after")
    def _retries_longer(self) -> "SamplingConfig":
        if self.retry_tokens is not None and self.retry_tokens <= self.max_tokens:
            raise ValueError(
                f"retry_tokens {self.retry_tokens} must be more than max_tokens {self.max_tokens}"
            )
        return self


class TeacherResourcesConfig(Section):
    """What one teacher takes of the cluster, in a pool of its own. Execution only.

    An engine has tensor_parallel x pipeline_parallel workers; `gpus` and `cpus` are per worker.
    """

    gpus: float = Field(default=1.0, ge=0)
    """GPUs of one engine worker; 0 for an engine on CPUs. By default 1 for vllm and transformers, 0
    for all others."""
    cpus: float = Field(default=1.0, ge=0)
    """Logical CPUs of one engine worker; of an endpoint none by default."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Workers that share every layer; they stand in one node."""
    pipeline_parallel: int = Field(default=1, ge=1)
    """Groups of workers that share out the layers."""
    across_nodes: bool = False
    """Whether pipeline stages may stand in different nodes."""
    executor: Literal["ray", "mp"] = "ray"
    """How vLLM starts several workers: in a placement group, or as processes of one actor."""
    replicas: int = Field(default=64, ge=1)
    """Most engines of this teacher at once."""
    max_requests: int = Field(default=256, ge=1)
    """Most requests at an endpoint at once."""
    max_deaths: int = Field(default=3, ge=0)
    """Deaths of engines in one step after which the teacher is given up."""
    arguments: dict[str, Any] = Field(default={})
    """Arguments of vLLM's engine for speed and memory alone (gpu_memory_utilization, ...)."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Speed of one engine at full slots, where it is known; otherwise estimated by `plan`."""
    load_seconds: float | None = Field(default=None, ge=0)
    """Time to load the weights, where it is known; otherwise estimated by `plan`."""

    @property
    def workers(self) -> int:
        """Workers of one engine."""
        return self.tensor_parallel * self.pipeline_parallel

    @model_validator(mode="after")
    def _only_for_speed(self) -> "TeacherResourcesConfig":
        shaping = sorted((SETTINGS | SHAPING) & self.arguments.keys())
        if shaping:
            raise ValueError(f"arguments {shaping} belong to the teacher's engine, not here")
        return self

    @model_validator(mode="after")
    def _whole_gpus(self) -> "TeacherResourcesConfig":
        if self.workers > 1 and self.gpus not in (0, 1):
            raise ValueError(
                f"gpus is {self.gpus:g}; an engine of {self.workers} workers takes 1 each, or 0"
            )
        return self


class PriceConfig(Section):
    """What an endpoint bills, in dollars per million tokens."""

    prompt: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    response: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class BudgetConfig(Section):
    """Limits of what an endpoint is paid; what may go over them is not asked for.

    They hold over all steps, processes and seeds that share a ledger. A request counts at its upper
    bound until its cost is known, also where its process was killed meanwhile.
    """

    tokens: int | None = Field(default=None, ge=1)
    """Prompt and response tokens together."""
    dollars: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """By `price`."""

    def require_price(self, price: PriceConfig | None) -> None:
        """Refuse a limit in dollars that nothing counts towards."""
        if self.dollars is not None and (price is None or not (price.prompt or price.response)):
            raise ValueError("budget.dollars needs price: dollars per million tokens, above 0")


class ModelSizeConfig(Section):
    """Facts of a model for `persyn plan`, where its files are not at hand."""

    parameters: float = Field(gt=0)
    """In billions."""
    active: float | None = Field(default=None, gt=0)
    """In billions: parameters that work on one token; all of them unless it has experts."""
    bits: float | None = Field(default=None, gt=0)
    """Of one stored weight; by default what `engine.quantization` or the model's `dtype` takes."""
    layers: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    """1 where a token leaves one latent that every GPU copies."""
    head_dim: int = Field(ge=1)
    """Half of the latent's width where there is one."""
    context: int = Field(ge=1)
    """Longest prompt + response in tokens."""


class TeacherConfig(Section):
    """One member of the pool; KIND:MODEL will do for one that is known by its model alone."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    engine: Engine
    sampling: SamplingConfig = SamplingConfig()  # pyright: ignore[reportCallIssue]
    system_prompt: str | None = None
    """Put before the conversation."""
    template_kwargs: dict[str, Any] = Field(default={})
    """Passed to the chat template."""
    resources: TeacherResourcesConfig | None = None
    """A pool of its own for this teacher; without it, it shares `resources.collect` with others."""
    price: PriceConfig | None = None
    """For `budget` and `plan`."""
    budget: BudgetConfig | None = None
    """Where to stop asking this teacher."""
    size: ModelSizeConfig | None = None
    """For `plan`, where the model's files are not at hand."""
    licence: str | None = None
    """Named in the data set card."""
    retired: bool = False
    """No longer asked and never a candidate. It keeps its place in the pool, its stored responses
    and its column of the router, so nothing is fitted anew."""
    num_probe: int | None = Field(default=None, ge=1)
    """Ask it only so many of the parallel prompts, drawn by hash, the same for all such teachers.
    Its rewards on the others are unknown. See `router.extend`."""

    @model_validator(mode="before")
    @classmethod
    def _or_kind_and_model(cls, data: Any) -> Any:
        return long_teacher(data)

    @model_validator(mode="before")
    @classmethod
    def _takes_what_its_engine_needs(cls, data: Any) -> Any:
        """No GPU is reserved for an engine that has no model here, unless it is asked for."""
        if not isinstance(data, dict) or not isinstance(data.get("resources"), dict):
            return data
        engine = data.get("engine")
        kind = engine.get("kind") if isinstance(engine, dict) else getattr(engine, "kind", None)
        return data | {"resources": LEAST.get(str(kind), {}) | data["resources"]}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return or_text(core_schema, handler)

    @model_validator(mode="after")
    def _engine_can(self) -> "TeacherConfig":
        kind, resources = self.engine.kind, self.resources
        if self.sampling.thinking_tokens is not None and kind not in ("vllm", "openai", "python"):
            raise ValueError(
                f"sampling.thinking_tokens works with vllm and openai, not with {kind}"
            )
        if resources is not None and resources.workers > 1 and kind not in ("vllm", "scripted"):
            raise ValueError(f"an engine of kind {kind} has one worker: no tensor_parallel here")
        return self

    @model_validator(mode="after")
    def _budget_is_kept(self) -> "TeacherConfig":
        if self.budget is not None and not isinstance(self.engine, OpenAIEngineConfig):
            raise ValueError(f"budget is kept by engine openai alone, not by {self.engine.kind}")
        if self.budget is not None:
            self.budget.require_price(self.price)
        return self


def active_teachers(teachers: Sequence[TeacherConfig]) -> tuple[str, ...]:
    """Names of the teachers that are not retired.

    Raises:
        ConfigError: all of them are.
    """
    names = tuple(teacher.name for teacher in teachers if not teacher.retired)
    if not names:
        raise ConfigError(
            "Every teacher is retired: at least one under `teachers` needs `retired: false`."
        )
    return names
