"""Attention over a pack, through the attention interface of transformers.

Models that compute attention through that interface hand over queries, keys and values of every
layer, their own scale, window and cap. On a CPU each block of a pack goes through torch's
scaled-dot-product attention; on a GPU the whole pack goes through flex attention, whose kernel
skips what the mask leaves out. Neither forms a matrix over the whole pack.

Axes: H heads, N packed tokens, D width of a head, Q queries of a block, K its keys.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from persyn_ray.models.packing import Block, Pack

NAME = "persyn_packed"
LAYERS = frozenset({"full_attention", "sliding_attention"})
"""Kinds of layers whose reach is given by a window, or by nothing."""


def active_window(model: PreTrainedModel) -> int | None:
    """The window that some layers of the model have, by its configuration."""
    config: Any = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    is_used = getattr(config, "use_sliding_window", True) is not False
    has_layers = layers is None or "sliding_attention" in layers
    return getattr(config, "sliding_window", None) if is_used and has_layers else None


def has_interface(model: PreTrainedModel) -> bool:
    """Whether a model's attention can be replaced, by what its class and configuration say."""
    config: Any = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ())
    is_chunked = getattr(config, "attention_chunk_size", None) is not None
    return bool(getattr(model, "_supports_attention_backend", False)) and (
        layers <= LAYERS and not is_chunked
    )


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model reads packs: call it with `packing=Pack`, ids and positions (1, N)."""
    AttentionInterface.register(NAME, _attend)
    config: Any = model.config.get_text_config()
    before = config._attn_implementation
    try:
        config._attn_implementation = NAME
        yield
    finally:
        config._attn_implementation = before


def _attend(
    module: torch.nn.Module,
    query_1HND: Tensor,
    key_1HND: Tensor,
    value_1HND: Tensor,
    attention_mask: Tensor | None,
    packing: Pack,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    # What else a model may hand over (dropout, sinks) either does nothing here or changes its
    # result: the scorer compares a small pack with the model's own attention first.
    attend = by_flex if query_1HND.is_cuda else by_blocks
    packing.windows.add(sliding_window)
    scale = query_1HND.shape[-1] ** -0.5 if scaling is None else scaling
    found = attend(query_1HND, key_1HND, value_1HND, packing, scale, sliding_window, softcap)
    return found.transpose(1, 2).contiguous(), None


def by_blocks(
    query_1HND: Tensor,
    key_1HND: Tensor,
    value_1HND: Tensor,
    packing: Pack,
    scaling: float,
    window: int | None,
    cap: float | None,
) -> Tensor:
    """Attention block by block, (1, H, N, D)."""
    shape = (*query_1HND.shape[:-1], value_1HND.shape[-1])
    # Laid out as the caller wants it: heads of a token side by side.
    found = query_1HND.new_empty(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2)
    for block in packing.blocks(window):
        query = query_1HND[:, :, slice(*block.queries)]
        key, value = _keys(key_1HND, block), _keys(value_1HND, block)
        if cap is not None:
            mask_QK = block.mask(window, query.device)
            attended = _capped(query, key, value, mask_QK, scaling, cap)
        else:  # the kernel knows a causal mask by itself
            mask_QK = None if block.is_causal else block.mask(window, query.device)
            attended = _plain(query, key, value, mask_QK, scaling)
        found[:, :, slice(*block.queries)] = attended
    return found


def _keys(values_1HND: Tensor, block: Block) -> Tensor:
    own = values_1HND[:, :, slice(*block.own_keys)]
    first, last = block.prompt_keys
    return own if first == last else torch.cat([values_1HND[:, :, first:last], own], dim=2)


def _plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> Tensor:
    return scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, cap: float
) -> Tensor:
    """Gemma 2 bends its scores before the softmax, which torch's attention has no word for."""
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = torch.tanh(query @ key.mT * (scaling / cap)) * cap
    scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


def by_flex(
    query_1HND: Tensor,
    key_1HND: Tensor,
    value_1HND: Tensor,
    packing: Pack,
    scaling: float,
    window: int | None,
    cap: float | None,
    compiled: bool = True,
) -> Tensor:
    """The same by flex attention, (1, H, N, D); uncompiled it forms all scores, for tests."""
    from torch.nn.attention.flex_attention import flex_attention

    def bend(score: Tensor, *_: Tensor) -> Tensor:
        return score if cap is None else torch.tanh(score / cap) * cap

    mask = _flex_mask(packing, window, str(query_1HND.device), compiled)
    attend: Any = _compiled(flex_attention) if compiled else flex_attention
    return attend(
        query_1HND,
        key_1HND,
        value_1HND,
        score_mod=None if cap is None else bend,
        block_mask=mask,
        scale=scaling,
        enable_gqa=True,
    )


@lru_cache(maxsize=1)
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


@lru_cache(maxsize=4)  # the layers of one forward pass, with and without a window
def _flex_mask(packing: Pack, window: int | None, device: str, compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    group_N, part_N = _places(packing, device)
    position_N = torch.tensor(packing.positions, device=device)

    def sees(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_prompt_or_own = (part_N[key] == 0) | (part_N[key] == part_N[query])
        visible = (group_N[query] == group_N[key]) & is_prompt_or_own & (key <= query)
        if window is None:
            return visible
        return visible & (position_N[query] - position_N[key] < window)

    num_tokens = len(packing.ids)
    # Compiled, it goes block by block; else it would form the matrix that is to be avoided.
    return create_block_mask(sees, None, None, num_tokens, num_tokens, device, _compile=compiled)


def _places(packing: Pack, device: str) -> tuple[Tensor, Tensor]:
    """Of each token its group, and its part of it: 0 for the prompt, then one per response."""
    group_N = torch.empty(len(packing.ids), dtype=torch.long)
    part_N = torch.empty_like(group_N)
    for number, group in enumerate(packing.groups):
        for part, (start, end) in enumerate((group.prompt, *group.responses)):
            group_N[start:end], part_N[start:end] = number, part
    return group_N.to(device), part_N.to(device)
