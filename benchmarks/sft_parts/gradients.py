"""Gaps between gradients of the same examples: packed and padded, chunked and of all logits, and
of either loss from the same in float64."""

import json
import sys
from contextlib import ExitStack
from typing import Any

from sft_parts.job import given


def main(job: dict[str, Any]) -> None:
    from functools import partial

    import torch

    from persyn_ray.models.chat import Example
    from persyn_ray.models.collate import sft_collator
    from persyn_ray.models.finetune import chunked_loss as chunked
    from persyn_ray.models.finetune import packed
    from persyn_ray.models.finetune.train import _response_loss
    from persyn_ray.models.load import load_causal_lm

    model = load_causal_lm(job["model"]).train()
    examples = [Example(*row) for row in job["rows"]]
    num = torch.tensor(sum(one.num_response_tokens for one in examples))
    padded: Any = partial(sft_collator, pad_id=0)

    def gradients(collate: Any, loss_of: Any, *contexts: Any) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with ExitStack() as within:
            for context in contexts:
                within.enter_context(context)
            batch = dict(collate(examples))
            labels = batch.pop("labels")
            loss_of(model(**batch), labels, num).backward()
        return {
            name: of.grad.clone() for name, of in model.named_parameters() if of.grad is not None
        }

    plain = gradients(padded, _response_loss)
    pack = gradients(packed.packed_collator, packed.packed_loss, packed.packing_of(model))
    few = gradients(
        chunked.with_places(padded), chunked.summed_loss, chunked.chunked_head(model, 64)
    )

    model.double()
    exact = gradients(padded, loss_in_float64)
    largest = {name: float(of.abs().max()) for name, of in exact.items()}

    def gaps(found: dict[str, torch.Tensor], of: dict[str, torch.Tensor]) -> dict[str, float]:
        """Of any parameter: the largest gap, and the largest by its own largest gradient."""
        each = {name: float((found[name] - of[name]).abs().max()) for name in found}
        by_size = (each[name] / largest[name] for name in found if largest[name])
        return {"largest": max(each.values()), "by_size": max(by_size)}

    said = {
        "packed": gaps(pack, plain),
        "chunked": gaps(few, plain),
        "chunked_from_float64": gaps(few, exact),
        "all_logits_from_float64": gaps(plain, exact),
        "largest_gradient": max(largest.values()),
    }
    print(json.dumps(said))


def loss_in_float64(outputs: Any, labels: Any, num: Any) -> Any:
    """The mean loss of response tokens, without rounding logits to float32."""
    from torch.nn.functional import cross_entropy

    logits, targets = outputs["logits"][:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return cross_entropy(logits, targets, ignore_index=-100, reduction="sum") / num


if __name__ == "__main__":
    main(given(sys.argv))
