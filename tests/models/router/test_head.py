"""Pooling and the fresh head: against plain loops, whatever the padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2Config, Qwen2Model

from persyn_ray.models.router.head import fresh_head, pool_states

lengths = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def padded(sizes: list[int], side: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Hidden states (B, T, 3) and the mask of prompts of these lengths."""
    longest = max(sizes) + 1
    mask = torch.zeros(len(sizes), longest, dtype=torch.long)
    for row, size in zip(mask, sizes, strict=True):
        row[slice(0, size) if side == "right" else slice(longest - size, longest)] = 1
    return torch.randn(len(sizes), longest, 3, generator=torch.manual_seed(seed)), mask


@settings(deadline=None)
@given(lengths, st.sampled_from(["left", "right"]))
def test_pooling_reads_a_prompts_own_tokens_alone(sizes: list[int], side: str) -> None:
    hidden, mask = padded(sizes, side)
    own = [states[row == 1] for states, row in zip(hidden, mask, strict=True)]
    mean = torch.stack([states.mean(0) for states in own])
    last = torch.stack([states[-1] for states in own])
    torch.testing.assert_close(pool_states(hidden, mask, "mean"), mean)
    torch.testing.assert_close(pool_states(hidden, mask, "last"), last)
    noisy = torch.where(mask[:, :, None] == 1, hidden, torch.tensor(1e6))
    for how in ("mean", "last"):
        torch.testing.assert_close(pool_states(noisy, mask, how), pool_states(hidden, mask, how))


def test_a_row_without_tokens_is_no_division_by_zero() -> None:
    hidden, mask = torch.ones(1, 4, 3), torch.zeros(1, 4, dtype=torch.long)
    assert pool_states(hidden, mask, "mean").tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("width", [8, 128])
def test_a_fresh_head_follows_its_seed_and_starts_near_zero_at_any_width(width: int) -> None:
    config = Qwen2Config(
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=16,
    )
    backbone = Qwen2Model(config)
    head, again, other = (fresh_head(backbone, 5, seed) for seed in (1, 1, 2))
    assert torch.equal(head.weight, again.weight)
    assert not torch.equal(head.weight, other.weight)
    assert not head.bias.any()
    logits = head(torch.randn(1000, width, generator=torch.manual_seed(0)))
    assert float(logits.detach().std()) == pytest.approx(0.1, rel=0.5)
