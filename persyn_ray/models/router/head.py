"""From the backbone's hidden states to logits: pooling, and one linear head without a hidden layer.

    o = W pool(h) + b

Axes: B prompts of a batch, T tokens, D hidden, M teachers.
"""

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from persyn_ray.models.router.losses import TARGETS, Loss, router_loss


def pool_states(hidden_BTD: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """One state per prompt, (B, D): the `mean` over its tokens, or that of the `last` one."""
    if pooling == "mean":
        weights_BT1 = mask_BT[:, :, None].to(hidden_BTD.dtype)
        return (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)
    # The last place with a 1, wherever the padding stands.
    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = (places_T * (mask_BT != 0)).argmax(dim=1)
    return hidden_BTD[torch.arange(len(hidden_BTD), device=hidden_BTD.device), last_B]


def fresh_head(backbone: PreTrainedModel, num_teachers: int, seed: int) -> nn.Linear:
    """The head that a new router starts with, on the backbone's device and in its number format."""
    width = backbone.config.get_text_config().hidden_size
    head = nn.Linear(width, num_teachers, dtype=backbone.dtype)
    generator = torch.Generator().manual_seed(seed)
    # Logits start near zero whatever the width: every teacher about as likely.
    weight = torch.randn(head.weight.shape, generator=generator) * 0.1 / math.sqrt(width)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head.to(backbone.device)


def head_logits(head: nn.Linear, features_BD: Tensor) -> Tensor:
    """Logits (B, M) of pooled states (B, D), in single precision at least."""
    logits_BM = head(features_BD.to(head.weight.dtype))
    return logits_BM.to(torch.promote_types(logits_BM.dtype, torch.float32))


def apply_head(
    head: nn.Linear, features_BD: Tensor, loss: Loss, wins: Tensor | None, rewards: Tensor | None
) -> SequenceClassifierOutput:
    """Logits of pooled states, and the loss where its target is given."""
    logits_BM = head_logits(head, features_BD)
    target = {"wins": wins, "rewards": rewards}[TARGETS[loss]]
    value = None if target is None else router_loss(loss, logits_BM, target)
    return SequenceClassifierOutput(loss=value, logits=logits_BM)  # pyright: ignore[reportArgumentType]
