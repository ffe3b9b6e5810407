"""The router's loss: Bradley-Terry over all preferences of a prompt (Eq. 3 and 4).

    loss = - sum_bij wins_bij log sigmoid(o_bi - o_bj) / sum_bij wins_bij

Axes: B prompts of a batch, M teachers. `wins_BMM[b, i, j]` is 1 when teacher i beats teacher j on
prompt b, a half for a counted tie, 0 otherwise. Grouping by prompt changes nothing but cost: one
pass through the backbone serves all pairs. The students' cross-entropy is the library's own.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def bradley_terry_loss(logits_BM: Tensor, wins_BMM: Tensor) -> Tensor:
    """Mean negative log-likelihood of the preferences, nats per pair; 0 when there is no pair."""
    logits_BM = logits_BM.to(torch.promote_types(logits_BM.dtype, torch.float32))
    wins_BMM = wins_BMM.to(logits_BM)
    margins_BMM = logits_BM[:, :, None] - logits_BM[:, None, :]
    num_pairs = wins_BMM.sum()
    # softplus(-m) = -log sigmoid(m), without overflow at large margins.
    total = (wins_BMM * softplus(-margins_BMM)).sum()
    return total / torch.where(num_pairs > 0, num_pairs, torch.ones_like(num_pairs))
