"""Cross-entropy without the logits of a whole micro-batch: hidden states in, a loss out.

The head is applied to so many response tokens at a time, and each chunk's logits become its part of
the loss and of the gradients at once, so that neither pass holds more of them. Loss and gradients
are those of the logits as a whole. Within `chunked_head` a model gives that loss in place of its
logits; the loss is computed inside the head's own forward pass, where ZeRO-3 has gathered its
weights.

Axes: B rows, T tokens, R response tokens, D hidden, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from persyn_ray.models.chat import Example
from persyn_ray.models.collate import IGNORED
from persyn_ray.models.head import Head

Batch = dict[str, Any]
NOT_OF_THE_DECODER = ("labels", "return_dict", "use_cache", "logits_to_keep")


class ChunkedLoss(torch.autograd.Function):
    """Sum of the cross-entropies of R tokens; its gradients are computed with it, chunk by chunk.

    Gradients of the head's weights add up in float32, whatever these are held in.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_R: Tensor,
        bends: tuple[float, float | None],
        num_rows: int,
        is_trained: bool,
    ) -> Tensor:
        """The sum, in float32; `bends` are the scale and the cap of the model's logits."""
        wants = [is_trained and needed for needed in ctx.needs_input_grad[:3]]
        sources = (hidden_RD, weight_VD, bias_V)
        grads = [
            torch.zeros_like(source, dtype=torch.float32) if wanted and source is not None else None
            for source, wanted in zip(sources, wants, strict=True)
        ]
        total = hidden_RD.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_RD), num_rows):
            rows = slice(start, start + num_rows)
            hidden, targets = hidden_RD[rows], targets_R[rows]
            loss, slopes_RV = _reduced(
                linear(hidden, weight_VD, bias_V), targets, bends, with_slopes=any(wants)
            )
            total += loss
            if slopes_RV is not None:
                _add_gradients(grads, rows, slopes_RV.to(weight_VD.dtype), hidden, weight_VD)
        ctx.save_for_backward(
            *(
                None if grad is None or source is None else grad.to(source.dtype)
                for grad, source in zip(grads, sources, strict=True)
            )
        )
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """What was computed with the loss, times the gradient of the sum."""
        factor = grad_outputs[0]
        found = [None if grad is None else grad * factor.to(grad.dtype) for grad in _saved(ctx)]
        return (*found, None, None, None, None)


def _saved(ctx: Any) -> Sequence[Tensor | None]:
    return ctx.saved_tensors


def _reduced(
    logits_RV: Tensor, targets_R: Tensor, bends: tuple[float, float | None], with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """Sum of the losses of a chunk, and their slopes by the head's output."""
    scale, cap = bends
    bent_RV = logits_RV.float() * scale if scale != 1 else logits_RV.float()
    if cap is not None:
        bent_RV = torch.tanh(bent_RV / cap) * cap
    target_R1 = bent_RV.gather(1, targets_R[:, None])
    normaliser_R1 = bent_RV.logsumexp(1, keepdim=True)
    loss = (normaliser_R1 - target_R1).sum()
    if not with_slopes:
        return loss, None
    slopes_RV = (bent_RV - normaliser_R1).exp_()
    slopes_RV.scatter_add_(1, targets_R[:, None], torch.full_like(target_R1, -1.0))
    if cap is not None:
        slopes_RV.mul_(1 - (bent_RV / cap).square())
    return loss, slopes_RV if scale == 1 else slopes_RV.mul_(scale)


def _add_gradients(
    grads: Sequence[Tensor | None],
    rows: slice,
    slopes_RV: Tensor,
    hidden_RD: Tensor,
    weight_VD: Tensor,
) -> None:
    of_hidden, of_weight, of_bias = grads
    if of_hidden is not None:
        of_hidden[rows] = slopes_RV @ weight_VD
    if of_weight is not None and slopes_RV.dtype == of_weight.dtype:
        of_weight.addmm_(slopes_RV.T, hidden_RD)  # a product as large as the head is not held
    elif of_weight is not None:
        of_weight += slopes_RV.T @ hidden_RD
    if of_bias is not None:
        of_bias += slopes_RV.sum(0)


def can_be_chunked(model: PreTrainedModel) -> bool:
    """Whether a model's logits are its head on its hidden states, seen on a few drawn ones.

    Families scale and cap their logits each in its own way; what is none of the known ways is
    trained with all logits.
    """
    head = model.get_output_embeddings()
    # Exactly torch's own: quantised layers are its subclasses and keep their weights packed.
    if type(head) is not torch.nn.Linear or model.get_decoder() is model:
        return False
    with torch.no_grad(), _gathered(head):
        try:
            return _is_chain(model)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False  # it asks its decoder for more than hidden states


def _gathered(head: torch.nn.Linear) -> AbstractContextManager[None]:
    """Within it a head is whole, which ZeRO-3 has partitioned."""
    if not hasattr(head.weight, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(head.parameters()))


def _is_chain(model: PreTrainedModel) -> bool:
    head, decoder = Head(model), model.get_decoder()
    drawn = torch.Generator().manual_seed(0)
    weight: Tensor = head.linear.weight
    hidden_TD = torch.randn(4, weight.shape[1], generator=drawn).to(weight)
    ids_1T = torch.zeros(1, 4, dtype=torch.long, device=weight.device)
    found = BaseModelOutputWithPast(last_hidden_state=hidden_TD[None])  # pyright: ignore
    with _replaced(decoder, lambda *_, **__: found):
        whole_TV = model(input_ids=ids_1T).logits[0].float()
    tolerance = 1e-4 if weight.dtype == torch.float32 else 2e-2
    return torch.allclose(head.logits(hidden_TD), whole_TV, tolerance, tolerance)


@contextmanager
def chunked_head(model: PreTrainedModel, num_rows: int) -> Iterator[None]:
    """Within it the model takes batches of `with_places` and gives `total`, the sum of their
    losses."""
    head, decoder = Head(model), model.get_decoder()

    def summed(hidden_RD: Tensor, targets_R: Tensor) -> Tensor:
        linear = head.linear
        bends, is_trained = (head.scale, head.cap), torch.is_grad_enabled()
        given = (hidden_RD, linear.weight, linear.bias, targets_R)
        return ChunkedLoss.apply(*given, bends, num_rows, is_trained)  # pyright: ignore

    def forward(places: Tensor, targets: Tensor, **given: Any) -> dict[str, Tensor]:
        kept = {
            name: value
            for name, value in given.items()
            if value is not None and name not in NOT_OF_THE_DECODER
        }
        hidden_BTD = decoder(**kept, use_cache=False).last_hidden_state
        hidden_RD = hidden_BTD.flatten(0, 1)[places.to(hidden_BTD.device)]
        return {"total": head.linear(hidden_RD, targets.to(hidden_RD.device))}

    with _replaced(head.linear, summed), _replaced(model, forward):
        yield


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Within it a module computes something else."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def with_places(collate: Callable[[Sequence[Example]], Batch]) -> Callable[..., Batch]:
    """A collator whose batches say as well where response tokens are predicted (`places`, among all
    tokens of the micro-batch) and what they are (`targets`)."""

    def collated(examples: Sequence[Example]) -> Batch:
        batch = dict(collate(examples))
        labels_BT = batch["labels"]
        if "logits_to_keep" in batch:  # a pack, whose labels stand behind one that is ignored
            places_R = batch.pop("logits_to_keep")
            return batch | {"places": places_R, "targets": labels_BT[0, 1:]}
        row_R, token_R = (labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
        places_R = row_R * labels_BT.shape[1] + token_R
        return batch | {"places": places_R, "targets": labels_BT[row_R, token_R + 1]}

    return collated


def summed_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Mean over the response tokens of the global batch."""
    num = num_items_in_batch
    if num is None:
        num = (labels[:, 1:] != IGNORED).sum().clamp(min=1)
    return outputs["total"] / num
