"""The router's losses: what its logits are fitted to. All pairs of a prompt come at once.

    bradley_terry   - sum_bij wins_bij log sigmoid(o_bi - o_bj) / sum_bij wins_bij     (Eq. 3 and 4)
    plackett_luce   mean over prompts of sum_i [log sum_{j in S_bi} exp(o_bj) - o_bi],
                    S_bi = {i} and all j with wins_bij > 0
    regression      mean over known rewards of ((o_bi - mean_j o_bj) - (r_bi - mean_j r_bj))^2,
                    means over the known teachers of the prompt

Axes: B prompts of a batch, M teachers. `wins_BMM[b, i, j]` is 1 when teacher i beats teacher j on
prompt b, a half for a counted tie, 0 otherwise; `rewards_BM` is NaN where unknown. Grouping by
prompt changes nothing but cost: one pass through the backbone serves all pairs.

All three leave a shift of a prompt's logits open: only differences between teachers are learned, so
the best teacher has the highest logit. Under Plackett-Luce each teacher is chosen ahead of those it
beats. Exactly equal ones are treated alike, whatever their order: with `ties: half` each is chosen
among its equals and all below (Breslow's likelihood), with `ties: drop` among itself and all below.
The logits of a regression are rewards, not log-odds. The students' cross-entropy is the library's.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

Loss = Literal["bradley_terry", "plackett_luce", "regression"]
TARGETS: dict[Loss, str] = {
    "bradley_terry": "wins",
    "plackett_luce": "wins",
    "regression": "rewards",
}
"""What a loss is fitted to: `wins` (B, M, M) or `rewards` (B, M)."""


def router_loss(loss: Loss, logits_BM: Tensor, target: Tensor) -> Tensor:
    """The loss of this name, of its target (see `TARGETS`); differentiable in the logits."""
    match loss:
        case "bradley_terry":
            return bradley_terry_loss(logits_BM, target)
        case "plackett_luce":
            return plackett_luce_loss(logits_BM, target)
        case "regression":
            return regression_loss(logits_BM, target)


def bradley_terry_loss(logits_BM: Tensor, wins_BMM: Tensor) -> Tensor:
    """Mean negative log-likelihood of the preferences, nats per pair; 0 when there is no pair."""
    logits_BM = logits_BM.to(torch.promote_types(logits_BM.dtype, torch.float32))
    wins_BMM = wins_BMM.to(logits_BM)
    margins_BMM = logits_BM[:, :, None] - logits_BM[:, None, :]
    num_pairs = wins_BMM.sum()
    # softplus(-m) = -log sigmoid(m), without overflow at large margins.
    total = (wins_BMM * softplus(-margins_BMM)).sum()
    return total / torch.where(num_pairs > 0, num_pairs, torch.ones_like(num_pairs))


def plackett_luce_loss(logits_BM: Tensor, wins_BMM: Tensor) -> Tensor:
    """Mean negative log-likelihood of a prompt's ranking, nats per prompt that has one; else 0."""
    logits_BM = logits_BM.to(torch.promote_types(logits_BM.dtype, torch.float32))
    beaten_BMM = wins_BMM.to(logits_BM.device) > 0
    itself_MM = torch.eye(logits_BM.shape[1], dtype=torch.bool, device=logits_BM.device)
    # What i beats by how much, its own 0 included: so no row is empty and none overflows.
    margins_BMM = logits_BM[:, None, :] - logits_BM[:, :, None]
    margins_BMM = margins_BMM.masked_fill(~(beaten_BMM | itself_MM), -torch.inf)
    num_ranked = beaten_BMM.flatten(1).any(dim=1).sum()
    return margins_BMM.logsumexp(dim=2).sum() / num_ranked.clamp(min=1)


def regression_loss(logits_BM: Tensor, rewards_BM: Tensor) -> Tensor:
    """Mean squared error of centred logits to centred rewards over the known ones.

    Prompts with fewer than two known rewards say nothing of differences and do not count; without
    any other the loss is 0.
    """
    logits_BM = logits_BM.to(torch.promote_types(logits_BM.dtype, torch.float32))
    rewards_BM = rewards_BM.to(logits_BM)
    known_BM = ~rewards_BM.isnan()
    known_BM &= known_BM.sum(dim=1, keepdim=True) > 1
    # Rewards first: a NaN times 0 is NaN, in the gradient too.
    errors_BM = (logits_BM - rewards_BM.nan_to_num()) * known_BM
    num_B1 = known_BM.sum(dim=1, keepdim=True)
    centred_BM = (errors_BM - errors_BM.sum(dim=1, keepdim=True) / num_B1.clamp(min=1)) * known_BM
    return centred_BM.square().sum() / num_B1.sum().clamp(min=1)
