"""The last layer of a language model, applied to few rows at a time and reduced at once.

Its output is as wide as the vocabulary: 8,192 rows of a vocabulary of 152k would take 5 GB of fp32
logits. Of each row three numbers are kept: how likely the next token was, how many others were
likelier, and how undecided the model was.

Axes: R rows, D hidden, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

LOGITS_BYTES = {"cpu": 96 << 20, "cuda": 512 << 20}
"""fp32 logits at once; on a CPU more of them leave the caches before they are reduced."""
REDUCED_BYTES = 4 << 20
"""fp32 logits reduced at once on a CPU, whose temporary values then stay in the caches."""


@dataclass(frozen=True)
class RowScores:
    """What is kept of each row; three tensors (R,) on the CPU."""

    log_probs: Tensor
    """Log-probability of the target, nats."""
    ranks: Tensor
    """1 for the likeliest token, 2 for the next; equal ones share the better rank."""
    entropies: Tensor
    """Entropy of the prediction, nats."""


class Head:
    """A model's output layer: logits = cap(weight x hidden + bias, scaled)."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.linear: Any = model.get_output_embeddings()
        config: Any = model.config.get_text_config()
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)  # Gemma
        scale: float = getattr(config, "logit_scale", None) or 1.0  # Cohere
        self.scale = scale / (getattr(config, "logits_scaling", None) or 1.0)  # Granite

    def logits(self, hidden_RD: Tensor, out_RV: Tensor | None = None) -> Tensor:
        """Logits (R, V) in fp32; of fp32 hidden states in `out_RV`, where that is given."""
        logits_RV = torch.mm(hidden_RD, self.linear.weight.T, out=out_RV)
        if self.linear.bias is not None:
            logits_RV += self.linear.bias
        logits_RV = logits_RV.float()
        if self.scale != 1:
            logits_RV = logits_RV.mul_(self.scale)
        return logits_RV if self.cap is None else logits_RV.div_(self.cap).tanh_().mul_(self.cap)

    def scores(self, hidden_RD: Tensor, targets_R: Tensor) -> RowScores:
        """The scores of all rows, some of them at a time."""
        vocabulary = self.linear.weight.shape[0]
        num_rows = _rows_of(LOGITS_BYTES, hidden_RD.device.type, vocabulary)
        # One buffer for all chunks: fresh memory for each costs a tenth of the time on a CPU.
        buffer_RV = hidden_RD.new_empty(min(num_rows, len(hidden_RD)), vocabulary)
        return _in_chunks(
            lambda hidden, targets: reduce_logits(
                self.logits(hidden, buffer_RV[: len(hidden)]), targets.to(hidden.device)
            ),
            hidden_RD,
            targets_R,
            num_rows,
        )


class NoHead:
    """For models whose whole forward pass gives the logits."""

    def scores(self, logits_RV: Tensor, targets_R: Tensor) -> RowScores:
        """The scores of all rows."""
        num_rows = _rows_of(LOGITS_BYTES, logits_RV.device.type, logits_RV.shape[1])
        return _in_chunks(
            lambda logits, targets: reduce_logits(logits.float(), targets.to(logits.device)),
            logits_RV,
            targets_R,
            num_rows,
        )


def reduce_logits(logits_RV: Tensor, targets_R: Tensor) -> RowScores:
    """Log-probability and rank of the targets, and entropy, of fp32 logits."""
    if logits_RV.device.type != "cpu":
        return _reduce(logits_RV, targets_R)
    num_rows = max(1, REDUCED_BYTES // (4 * logits_RV.shape[1]))
    return _in_chunks(_reduce, logits_RV, targets_R, num_rows)


def _reduce(logits_RV: Tensor, targets_R: Tensor) -> RowScores:
    target_R1 = logits_RV.gather(1, targets_R[:, None])
    largest_R1 = logits_RV.amax(1, keepdim=True)
    exps_RV = torch.sub(logits_RV, largest_R1).exp_()
    # Not torch's softmax: on a CPU it adds up a wide row in few lanes, one after the other, and
    # was off by 1.5e-5 on average; `sum` adds in pairs.
    total_R1 = exps_RV.sum(1, keepdim=True)
    normaliser_R1 = largest_R1 + total_R1.log()
    mean_logit_R1 = torch.linalg.vecdot(exps_RV, logits_RV)[:, None] / total_R1
    # As floats: sums of bytes or of truth values take three times as long on a CPU, and fp32
    # counts exactly up to 16 million.
    is_likelier_RV = torch.sub(logits_RV, target_R1, out=exps_RV).sign_().clamp_(min=0)
    return RowScores(
        (target_R1 - normaliser_R1).squeeze(1).cpu(),
        1 + is_likelier_RV.sum(1).to(torch.int32).cpu(),
        (normaliser_R1 - mean_logit_R1).squeeze(1).cpu(),
    )


def _rows_of(budget: dict[str, int], device: str, vocabulary: int) -> int:
    return max(1, budget.get(device, budget["cpu"]) // (4 * vocabulary))


def _in_chunks(
    reduce: Callable[[Tensor, Tensor], RowScores], rows: Tensor, targets_R: Tensor, num_rows: int
) -> RowScores:
    """So many rows and their targets at a time."""
    chunks = zip(rows.split(num_rows), targets_R.split(num_rows), strict=True)
    found = [reduce(*chunk) for chunk in chunks]
    return RowScores(
        torch.cat([part.log_probs for part in found]),
        torch.cat([part.ranks for part in found]),
        torch.cat([part.entropies for part in found]),
    )
