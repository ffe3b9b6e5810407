"""The recipe's `finetune` and `evaluate`: how the student is trained and what it is measured on."""

from typing import Literal

from pydantic import Field

from persyn_ray.recipe.base import Section
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.recipe.scoring import Check


class FinetuneConfig(Section):
    """Fine-tuning of the student on response tokens. The paper's settings are not known."""

    epochs: float = Field(2, gt=0)
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many optimiser steps."""
    learning_rate: float = Field(1e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(32, ge=1)
    """Examples per optimiser step, over all workers and accumulation."""
    micro_batch_size: int = Field(4, ge=1)
    """Examples per worker and forward pass."""
    max_length: int = Field(4096, ge=2)
    """Longer examples are left out and counted."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    gradient_checkpointing: bool = False
    lora: LoraConfig | None = None
    save_steps: int = Field(200, ge=1)
    """Optimiser steps between checkpoints to resume from."""
    seed: int = 0


class EvaluateConfig(Section):
    """Held-out problems with checkable answers."""

    path: str | tuple[str, ...] | None = None
    """File of held-out problems (columns as in `prompts`); otherwise `prompts.num_heldout`."""
    limit: int | None = Field(None, ge=1)
    """Decode at most so many of the held-out problems."""
    max_tokens: int = Field(256, ge=1)
    batch_size: int = Field(64, ge=1)
    check: Check | None = None
    """How answers are checked; by default as `scoring.quality`, when that is an exact check."""
