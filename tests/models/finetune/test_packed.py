"""Packed micro-batches: the gradients of the padded batch, and no example sees another."""

from typing import Any

import pytest
import torch

from persyn_ray.errors import ConfigError
from persyn_ray.models.chat import Example
from persyn_ray.models.collate import IGNORED, sft_collator
from persyn_ray.models.finetune.packed import packed_collator, packed_loss, packing_of
from persyn_ray.models.finetune.train import _response_loss
from persyn_ray.models.load import load_causal_lm

from ..families import FAMILIES

EXAMPLES = [
    Example([5, 3, 8, 6, 2, 7, 4], 3),
    Example([9, 4, 6, 5, 1], 2),
    Example(list(range(3, 40)) * 10, 30),  # several blocks of attention
    Example([7, 2], 1),
    Example([5, 3, 8, 1, 1, 2], 3),  # the prompt of the first
    Example([3, 3, 3], 3),  # no response
]


def gradients(model: Any, batch: dict[str, Any], loss_of: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    labels = batch.pop("labels")
    num = torch.tensor(sum(example.num_response_tokens for example in EXAMPLES))
    loss_of(model(**batch), labels, num).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", ["llama", "qwen2_window", "qwen3", "gemma2"])
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_gradients_are_those_of_the_padded_batch(family: str, is_checkpointed: bool) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().train()
    if is_checkpointed:
        model.activation_checkpointing_enable()
    padded = gradients(model, dict(sft_collator(EXAMPLES, pad_id=0)), _response_loss)
    with packing_of(model):
        packed = gradients(model, packed_collator(EXAMPLES), packed_loss)
    for name, wanted in padded.items():
        torch.testing.assert_close(packed[name], wanted, atol=1e-5, rtol=1e-4)
    assert max(float(one.abs().max()) for one in padded.values()) > 1e-3


def test_without_response_tokens_nothing_is_learned() -> None:
    model = load_causal_lm("random:llama")
    batch = packed_collator([Example([0], 1), Example([0], 1)])
    with packing_of(model):
        labels = batch.pop("labels")
        packed_loss(model(**batch), labels, torch.tensor(4)).backward()
    assert all(not weight.grad.any() for weight in model.parameters() if weight.grad is not None)


def test_the_head_is_applied_to_what_predicts_a_response_token_alone() -> None:
    model = load_causal_lm("random:llama")
    batch = packed_collator(EXAMPLES)
    num = sum(example.num_response_tokens for example in EXAMPLES)
    with packing_of(model), torch.no_grad():
        labels = batch.pop("labels")
        assert model(**batch).logits.shape[1] == num
    # As the Trainer counts them: without the first.
    assert int((labels[..., 1:] != IGNORED).sum()) == num


def test_a_model_with_an_attention_of_its_own_is_refused() -> None:
    model = load_causal_lm("random:llama")
    model._supports_attention_backend = False
    with pytest.raises(ConfigError, match=r"finetune\.packing to false"):
        packing_of(model)
