"""Routers whose backbone stays as it is: each prompt passes through it once, and all that follows
works on its pooled state (its features).

    o = W x + b    with features x of a prompt, and one row of W and one of b per teacher

A head is fitted on stored features, and a fitted router is given columns for new teachers. Features
are computed in eval mode: a backbone that is not fitted has no use for dropout.
Axes: B prompts of a batch, P prompts, D hidden, M teachers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from persyn_ray.errors import PoolMismatchError
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.models.chat import Message
from persyn_ray.models.collate import FeatureRow, RouterRow
from persyn_ray.models.router.head import apply_head, head_logits
from persyn_ray.models.router.losses import Loss
from persyn_ray.models.router.model import (
    Router,
    RouterModelConfig,
    encode_router_prompts,
    finite_logits,
    over_batches,
    pad_of,
)
from persyn_ray.recipe.pool import TeacherPool

TOKENS_PER_BATCH = 8192
Floats = NDArray[np.float64]


class FeatureRouter(nn.Module):
    """A router's head by itself; it shares its weights with the router."""

    def __init__(self, head: nn.Linear, loss: Loss) -> None:
        super().__init__()
        self.head = head
        self.loss: Loss = loss

    def forward(
        self, features: Tensor, wins: Tensor | None = None, rewards: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Logits (B, M) of features (B, D), and the loss where its target is given."""
        return apply_head(self.head, features, self.loss, wins, rewards)


def prompt_features(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    max_length: int = 1024,
) -> Tensor:
    """Features (P, D) of prompts, in their order, on the CPU."""
    ids = encode_router_prompts(tokenizer, conversations, max_length)
    return over_batches(router, router.pooled, ids, pad_of(tokenizer), tokens_per_batch)


def with_features(
    router: Router, rows: Sequence[RouterRow], pad_id: int, tokens_per_batch: int = TOKENS_PER_BATCH
) -> list[FeatureRow]:
    """Rows with `features` (D,), made from `input_ids`; those that have them already keep them."""
    new = {place: row["input_ids"] for place, row in enumerate(rows) if "features" not in row}
    found: dict[int, Tensor] = {}
    if new:
        ids = list(new.values())
        features_PD = over_batches(router, router.pooled, ids, pad_id, tokens_per_batch)
        found = dict(zip(new, features_PD, strict=True))
    return [
        row if "features" in row else {**row, "features": found[place]}
        for place, row in enumerate(rows)
    ]


def feature_logits(head: nn.Linear, features_PD: Tensor) -> Floats:
    """Logits (P, M) of features."""
    with torch.no_grad():
        return head_logits(head, features_PD.to(head.weight.device)).double().cpu().numpy()


def checked_logits(
    router: Router, features_PD: Tensor, tasks: Sequence[str | None] | None = None
) -> Floats:
    """Logits (P, M) of a router's own features, whatever its kind.

    Args:
        tasks: labels of the prompts, which some kinds read.

    Raises:
        DataError: one is not finite.
    """
    if router.predictor is not None:
        labels = (None,) * len(features_PD) if tasks is None else tuple(tasks)
        asked = PromptFeatures(labels, features_PD.double().cpu().numpy())
        return router.predictor.logits(asked)
    with torch.no_grad():
        logits_PM = head_logits(router.head, features_PD.to(router.device))
    return finite_logits(logits_PM, router.dtype)


def add_columns(
    router: Router, teachers: Sequence[str], columns: Mapping[str, tuple[Floats, float]]
) -> Router:
    """A router for a larger pool, in the order of `teachers`: it shares the backbone with the one
    given and has its columns bit by bit; those of new teachers are `columns` (weight (D,), bias).

    Raises:
        PoolMismatchError: a teacher is left out, or one has no column or two.
    """
    pool, old = TeacherPool(tuple(teachers)), tuple(router.config.teachers)
    if set(old) & set(columns) or set(old) | set(columns) != set(pool.names):
        raise PoolMismatchError(
            f"A router for {old} and columns for {tuple(columns)} do not make the pool "
            f"{pool.names}: each teacher of `teachers` needs one of either, none may be left out."
        )
    given = router.config
    config = RouterModelConfig(given.backbone_config, given.pooling, pool.names, given.loss)
    config.dtype = given.dtype
    with torch.device("meta"):
        larger = Router(config)
    larger.backbone = router.backbone
    larger.head = _larger_head(router.head, old, pool, columns)
    return larger.eval()


def _larger_head(
    head: nn.Linear,
    old: Sequence[str],
    pool: TeacherPool,
    columns: Mapping[str, tuple[Floats, float]],
) -> nn.Linear:
    larger = nn.Linear(head.in_features, len(pool)).to(head.weight)
    with torch.no_grad():
        for place, name in enumerate(old):
            larger.weight[pool.index(name)] = head.weight[place]
            larger.bias[pool.index(name)] = head.bias[place]
        for name, (weight_D, bias) in columns.items():
            larger.weight[pool.index(name)] = torch.from_numpy(weight_D).to(head.weight)
            larger.bias[pool.index(name)] = bias
    return larger
