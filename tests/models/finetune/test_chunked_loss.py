"""The chunked loss: that of all logits at once, its gradients, and never all logits in memory."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from persyn_ray.models.chat import Example
from persyn_ray.models.collate import sft_collator
from persyn_ray.models.finetune.chunked_loss import (
    can_be_chunked,
    chunked_head,
    summed_loss,
    with_places,
)
from persyn_ray.models.finetune.packed import packed_collator, packing_of
from persyn_ray.models.finetune.train import _response_loss

from ..families import FAMILIES, VOCABULARY

EXAMPLES = [
    Example([5, 3, 8, 6, 2, 7, 4], 3),
    Example([9, 4, 6, 5, 1], 2),
    Example(list(range(3, 40)) * 4, 30),
    Example([7, 2], 1),
    Example([3, 3, 3], 3),  # no response
]
NUM = torch.tensor(sum(example.num_response_tokens for example in EXAMPLES))


def padded(examples: list[Example]) -> dict[str, Any]:
    return dict(sft_collator(examples, pad_id=0))


def loss_and_gradients(
    model: Any, batch: dict[str, Any], loss_of: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    labels = batch.pop("labels")
    loss = loss_of(model(**batch), labels, NUM)
    loss.backward()
    return loss.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3", "cohere", "granite"])
@pytest.mark.parametrize("num_rows", [1, 7, 1024])
@pytest.mark.parametrize("is_packed", [False, True])
def test_loss_and_gradients_are_those_of_all_logits(
    family: str, num_rows: int, is_packed: bool
) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().train()
    assert can_be_chunked(model)
    wanted, of_all = loss_and_gradients(model, padded(EXAMPLES), _response_loss)
    collate = with_places(packed_collator if is_packed else padded)
    with packing_of(model) if is_packed else nullcontext(), chunked_head(model, num_rows):
        found, of_chunks = loss_and_gradients(model, collate(EXAMPLES), summed_loss)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert of_chunks.keys() == of_all.keys()
    for name, gradient in of_all.items():
        torch.testing.assert_close(of_chunks[name], gradient, atol=1e-5, rtol=1e-5)
    assert max(float(one.abs().max()) for one in of_all.values()) > 1e-3
    assert model(**{"input_ids": torch.tensor([[1, 2]])}).logits.shape == (1, 2, VOCABULARY)


def test_a_bias_of_the_head_and_a_head_that_is_not_trained_count() -> None:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().train()
    model.lm_head = torch.nn.Linear(32, VOCABULARY)  # pyright: ignore[reportAttributeAccessIssue]
    _, of_all = loss_and_gradients(model, padded(EXAMPLES), _response_loss)
    with chunked_head(model, 5):
        _, whole = loss_and_gradients(model, with_places(padded)(EXAMPLES), summed_loss)
        model.lm_head.requires_grad_(False)  # as with adapters
        model.zero_grad()
        batch = with_places(padded)(EXAMPLES)
        labels = batch.pop("labels")
        summed_loss(model(**batch), labels, NUM).backward()
    torch.testing.assert_close(whole["lm_head.bias"], of_all["lm_head.bias"])
    assert model.lm_head.weight.grad is None
    down = model.get_parameter("model.layers.0.mlp.down_proj.weight").grad
    torch.testing.assert_close(down, of_all["model.layers.0.mlp.down_proj.weight"])


class Largest(TorchDispatchMode):
    """Follows how large the tensors are that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


def largest_tensor(num_rows: int | None) -> int:
    """Numbers in the largest tensor of a forward and a backward pass."""
    import transformers as hf

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **heads, vocab_size=50_000)).train()
    example = Example(list(range(3, 503)), 10)
    with Largest() as largest:
        if num_rows is None:
            batch = padded([example])
            _response_loss(model(batch["input_ids"]), batch["labels"], NUM).backward()
        else:
            with chunked_head(model, num_rows):
                batch = with_places(padded)([example])
                summed_loss(model(**batch), batch.pop("labels"), NUM).backward()
    return largest.numbers


def test_logits_of_a_micro_batch_are_never_held() -> None:
    assert largest_tensor(None) >= 490 * 50_000
    assert largest_tensor(20) == 20 * 50_000  # of 20 rows; the weights have 16 columns


def test_without_response_tokens_nothing_is_learned() -> None:
    model = FAMILIES["llama"]().train()
    with chunked_head(model, 4):
        blanks = [Example([0], 1), Example([0], 1)]
        _, gradients = loss_and_gradients(model, with_places(padded)(blanks), summed_loss)
    assert not any(bool(one.any()) for one in gradients.values())


def test_evaluating_computes_no_gradients() -> None:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().eval()
    with chunked_head(model, 4), torch.no_grad():
        batch = with_places(padded)(EXAMPLES)
        labels = batch.pop("labels")
        loss = summed_loss(model(**batch), labels)
    whole = padded(EXAMPLES)
    with torch.no_grad():
        wanted = _response_loss(model(**whole), whole["labels"])
    torch.testing.assert_close(loss, wanted)
    assert not loss.requires_grad


def test_a_model_whose_logits_are_made_otherwise_is_left_with_all_of_them() -> None:
    model: Any = FAMILIES["llama"]()
    assert can_be_chunked(model)

    class Louder(type(model)):
        def forward(self, *given: Any, **settings: Any) -> Any:
            found = super().forward(*given, **settings)
            found.logits = found.logits * 1.5
            return found

    model.__class__ = Louder
    assert not can_be_chunked(model)
    assert not can_be_chunked(FAMILIES["gpt2"]().transformer)  # no head
