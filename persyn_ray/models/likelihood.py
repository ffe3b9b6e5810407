"""Mean log-likelihood of responses under the student, the raw material of Eq. 1.

    r_l(y, theta) = (1 / |y|) sum_t log p_theta(y_t | x, y_<t)          nats per token, <= 0

Hidden states of the whole batch are computed once; the head, whose output is as wide as the
vocabulary, is applied only to rows that predict a response token, some hundred at a time: 8192
tokens of a vocabulary of 152k would take 5 GB of logits otherwise. Axes: B rows, T tokens, R rows
of response tokens, D hidden, V vocabulary. This module does not tokenise, truncate or scale.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from persyn_ray.errors import DataError
from persyn_ray.models.chat import Example
from persyn_ray.models.collate import batches_by_tokens, pad_right
from persyn_ray.models.load import context_length

HEAD_ROWS = 1024  # 0.6 GB of fp32 logits for a vocabulary of 152k

Body = Callable[[Tensor, Tensor], Tensor]  # token ids and mask (B, T) -> hidden states (B, T, D)
Head = Callable[[Tensor], Tensor]  # hidden states (R, D) -> logits (R, V)


@dataclass(frozen=True)
class ResponseLikelihood:
    """How likely the student finds a response."""

    mean: float
    """Nats per token; NaN when there are no tokens."""
    num_tokens: int


@torch.inference_mode()
def response_likelihoods(
    model: PreTrainedModel,
    examples: Sequence[Example],
    tokens_per_batch: int = 8192,
    pad_id: int = 0,
) -> list[ResponseLikelihood]:
    """Mean log-likelihood of each example's response, in input order.

    Raises:
        DataError: an example is longer than the context or has no prompt, or its likelihood is not
        finite.
    """
    for row, example in enumerate(examples):
        _require_scorable(model, example, row)
    model.eval()
    if not examples:
        return []
    body, head = _body_and_head(model, examples[0])
    found: list[ResponseLikelihood | None] = [None] * len(examples)
    for rows in batches_by_tokens([len(example.ids) for example in examples], tokens_per_batch):
        batch = [examples[row] for row in rows]
        for row, log_probs in zip(rows, _log_probs(model, batch, pad_id, body, head), strict=True):
            found[row] = _mean(log_probs, row, model)
    return [likelihood for likelihood in found if likelihood is not None]


def _require_scorable(model: PreTrainedModel, example: Example, row: int) -> None:
    limit = context_length(model)
    if limit is not None and len(example.ids) > limit:
        raise DataError(
            f"Row {row} has {len(example.ids)} tokens, more than the model's context of {limit}: "
            "leave it out (`scoring.max_length`)."
        )
    if example.num_prompt_tokens < 1:
        raise DataError(
            f"Row {row} has no prompt tokens: nothing predicts its first response token."
        )


def _mean(log_probs: Tensor, row: int, model: PreTrainedModel) -> ResponseLikelihood:
    if not len(log_probs):
        return ResponseLikelihood(math.nan, 0)
    mean = float(log_probs.double().mean())
    if not math.isfinite(mean):
        raise DataError(
            f"The log-likelihood of row {row} is {mean} in {model.dtype}: the model overflows "
            "or its weights are broken. float32 or bfloat16 is safer than float16 (`dtype`)."
        )
    return ResponseLikelihood(mean, len(log_probs))


def _log_probs(
    model: PreTrainedModel, batch: Sequence[Example], pad_id: int, body: Body, head: Head
) -> list[Tensor]:
    """Log-probabilities of the response tokens of each example of one padded batch, on the CPU."""
    input_ids_BT, mask_BT = pad_right([example.ids for example in batch], pad_id)
    is_response_BT = mask_BT.bool()
    for number, example in enumerate(batch):
        is_response_BT[number, : example.num_prompt_tokens] = False
    # Token t is predicted by the hidden state of token t - 1.
    row_R, token_R = is_response_BT[:, 1:].nonzero(as_tuple=True)
    hidden_BTD = body(input_ids_BT.to(model.device), mask_BT.to(model.device))
    hidden_RD = hidden_BTD[row_R.to(hidden_BTD.device), token_R.to(hidden_BTD.device)]
    targets_R = input_ids_BT[row_R, token_R + 1].to(hidden_RD.device)
    chunks = zip(hidden_RD.split(HEAD_ROWS), targets_R.split(HEAD_ROWS), strict=True)
    log_probs_R = torch.cat([_picked(head(hidden), targets) for hidden, targets in chunks])
    return list(log_probs_R.cpu().split([example.num_response_tokens for example in batch]))


def _picked(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    logits_RV = logits_RV.float()
    targets_R = targets_R.to(logits_RV.device)
    return logits_RV.gather(1, targets_R[:, None]).squeeze(1) - logits_RV.logsumexp(1)


def _body_and_head(model: PreTrainedModel, probe: Example) -> tuple[Body, Head]:
    """The model in two parts whose chain gives its logits.

    Families scale or cap their logits each in its own way, even under one attribute name (Granite
    divides by `logits_scaling`, HyperCLOVA X multiplies). So the chain is compared with the model's
    own forward on a few tokens; where they differ, the whole model is the body: right for any
    model, but with all logits at once.
    """
    probe_ids_BT = torch.tensor([probe.ids[:8]], device=model.device)
    mask_BT = torch.ones_like(probe_ids_BT)
    whole_BTV = _whole(model)(probe_ids_BT, mask_BT).float()
    if model.get_decoder() is not model and model.get_output_embeddings() is not None:
        body, head = _decoder(model), _output_head(model)
        chained_BTV = head(body(probe_ids_BT, mask_BT)).float()
        tolerance = 1e-4 if model.dtype == torch.float32 else 1e-2
        if torch.allclose(chained_BTV, whole_BTV, rtol=tolerance, equal_nan=True):
            return body, head
    return _whole(model), lambda logits_RV: logits_RV


def _whole(model: PreTrainedModel) -> Body:
    return lambda ids_BT, mask_BT: model(ids_BT, attention_mask=mask_BT, use_cache=False).logits


def _decoder(model: PreTrainedModel) -> Body:
    decoder: Any = model.get_decoder()
    return lambda ids_BT, mask_BT: (
        decoder(ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
    )


def _output_head(model: PreTrainedModel) -> Head:
    linear: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    cap: float | None = getattr(config, "final_logit_softcapping", None)  # Gemma
    scale: float = getattr(config, "logit_scale", None) or 1.0  # Cohere
    scale = scale / (getattr(config, "logits_scaling", None) or 1.0)  # Granite

    def head(hidden: Tensor) -> Tensor:
        logits = linear(hidden) * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return head
