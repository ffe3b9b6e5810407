"""The `serving` section: the router's endpoint. Never part of a run's identity.

`persyn serve` reads it from a run's recipe, from a YAML file, and from the command line.
"""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from persyn_ray.recipe.base import Section
from persyn_ray.recipe.engines import OpenAIEngineConfig, file_name, variable_name
from persyn_ray.recipe.teachers import BudgetConfig, PriceConfig

Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UpstreamConfig(OpenAIEngineConfig):
    """Where a teacher answers chats: an OpenAI-compatible address."""

    kind: Any = "openai"
    price: PriceConfig | None = None
    """What it bills, for `chat_budget.dollars`; the recipe's price of the teacher by default."""


class ServingConfig(Section):
    """The router's endpoint on Ray Serve."""

    # Who may ask, and how much
    keys: dict[Owner, Digest] = Field(default={})
    """SHA-256 of each API key, by its owner's name; `persyn key NAME` makes both. They are for
    `persyn serve` (`--settings`, or `serving.keys.NAME=SHA256`): no run keeps them, so that to
    serve somebody else's run lets nobody in."""
    keys_env: str = "PERSYN_API_KEYS"
    """Environment variable of the replicas with further ones, as `NAME:SHA256,NAME:SHA256`."""
    keys_file: str | None = None
    """File of the replicas (a mounted secret) with further ones, one `NAME:SHA256` a line."""
    requests_per_second: float = Field(default=100.0, gt=0)
    """Of one key, over all replicas."""
    burst: int = Field(default=200, ge=1)
    """Requests that a key may send at once after a pause, over all replicas."""
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Larger bodies are refused while they arrive (413)."""
    max_prompts: int = Field(default=1024, ge=1)
    """Prompts of one request (422)."""
    max_prompt_tokens: int = Field(default=8192, ge=1)
    """Of one prompt, counted by the router's tokenizer, and no more than 16 characters for each
    (422). The router itself reads the last `router.max_length` tokens."""
    request_timeout_s: float = Field(default=30.0, gt=0)
    """Until a response begins (504)."""
    chat_timeout_s: float = Field(default=600.0, gt=0)
    """The same for forwarded chats, which take a teacher's time."""
    max_chat_tokens: int = Field(default=4096, ge=1)
    """Most tokens that a forwarded chat may ask for in each choice (422 above); sent along where it
    states no limit, in the field that the upstream's `extra_body` uses, else as max_tokens."""
    max_choices: int = Field(default=4, ge=1)
    """Most choices (`n`) that a forwarded chat may ask for (422 above)."""
    chat_budget: BudgetConfig | None = None
    """What the forwarded chats of each upstream may cost in all, over all replicas and restarts, as
    long as `chat_ledger` lies there: what may go over it gets 429 with code insufficient_quota."""
    chat_ledger: str | None = None
    """Folder or fsspec address where that is recorded, which all replicas share and can write (on
    a cluster a shared volume or an object store); by default that of the run."""
    log_prompts: bool = False
    """Write prompts into the replicas' logs."""

    # Load
    max_ongoing_requests: int = Field(default=256, ge=1)
    """Requests that a replica works on at once; others get 429 with Retry-After."""
    max_waiting_tokens: int = Field(default=2**18, ge=1)
    """Prompt tokens (four characters each) that wait in a replica to be read and answered; more
    get 429 with Retry-After. A single request may be larger."""
    tokens_per_batch: int = Field(default=16384, ge=1)
    """Prompt tokens in one pass of the router. Without a GPU requests share passes of 2048."""
    batch_wait_s: float = Field(default=0.002, ge=0)
    """How long a pass waits for company while the router is idle. What comes while it works makes
    up the next pass."""
    answer_within_s: float | None = Field(default=5.0, gt=0)
    """The router's time to read and answer; then a teacher is drawn by the prior shares, and the
    answer says so. Null waits for the router."""
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=32.0, gt=0)
    """Requests in progress per replica that autoscaling aims at."""
    cpus: float = Field(default=1.0, ge=0)
    """Logical CPUs of a replica, and its torch threads."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs of a replica."""

    # Whom to choose
    masked: tuple[str, ...] = ()
    """Teachers that get no prompt; those retired in the recipe come on top."""
    prices: dict[str, Number] = Field(default={})
    """Dollars per million response tokens, for requests with a `price_weight`; the recipe's
    `price.response` by default."""
    prior: dict[str, Number] = Field(default={})
    """Shares of the teachers when the router cannot answer; by default those that the router
    gave the parallel set."""
    upstreams: dict[str, UpstreamConfig] = Field(default={})
    """Where teachers answer chats; the recipe's teachers of kind openai by default."""

    @field_validator("keys_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        return variable_name(name)

    @field_validator("keys_file")
    @classmethod
    def _names_a_file(cls, path: str | None) -> str | None:
        return None if path is None else file_name(path)

    @field_validator("upstreams", mode="before")
    @classmethod
    def _of_one_kind(cls, upstreams: Any) -> Any:
        if not isinstance(upstreams, dict):
            return upstreams
        return {
            k: {"kind": "openai"} | v if isinstance(v, dict) else v for k, v in upstreams.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> "ServingConfig":
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas {self.max_replicas} is less than min_replicas {self.min_replicas}"
            )
        if self.prior and not sum(self.prior.values()):
            raise ValueError("prior must give some teacher a share above 0")
        return self
