"""Fine-tuning without padding: the examples of a micro-batch in one sequence, each apart.

An example attends to itself alone and counts its positions from 0, by the same attention as
scoring (models/attention.py); the head is applied to what predicts a response token and to nothing
else. Gradients are those of the padded batch; examples with the same prompt share it.

Axes: N packed tokens, R response tokens of the micro-batch, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from persyn_ray.errors import ConfigError
from persyn_ray.models.attention import has_interface, packed_attention
from persyn_ray.models.chat import Example
from persyn_ray.models.collate import IGNORED
from persyn_ray.models.packing import packs


def packing_of(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Within it the model can be trained on packs.

    Raises:
        ConfigError: its attention cannot be replaced.
    """
    takes = inspect.signature(type(model).forward).parameters
    if not has_interface(model) or "logits_to_keep" not in takes:
        raise ConfigError(
            f"{type(model).__name__} computes attention in a way of its own and cannot read packs: "
            "set finetune.packing to false."
        )
    return packed_attention(model)


def packed_collator(examples: Sequence[Example]) -> dict[str, Any]:
    """A micro-batch as one pack: ids and positions (1, N), labels (1, 1 + R), and where they are
    predicted. The first label is none, as whoever counts labels leaves it out."""
    said = [example for example in examples if example.num_response_tokens]
    (pack,) = packs(said or examples[:1], tokens_per_pack=1 << 62)
    return {
        "input_ids": torch.tensor([pack.ids]),
        "position_ids": torch.tensor([pack.positions]),
        "labels": torch.tensor([[IGNORED, *(pack.targets if said else [])]], dtype=torch.long),
        "logits_to_keep": torch.tensor(pack.predictors if said else [], dtype=torch.long),
        "packing": pack,
    }


def packed_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Mean over the response tokens of the global batch; labels (1, 1 + R) stand as predicted."""
    logits_RV = outputs["logits"][0].float()
    total = cross_entropy(logits_RV, labels[0, 1:].to(logits_RV.device), reduction="sum")
    num = max(1, labels.numel() - 1) if num_items_in_batch is None else num_items_in_batch
    return total / num
