"""Features of a student's prefill: a language model and prompts in, a row of numbers a prompt out.

What the student itself makes of a prompt before anyone answers it, which an encoder of sentences
cannot know. For each layer asked for, the hidden state of the last token and the mean over tokens:

    features = [ last(layer), mean(layer) for each layer ]

and, where they are asked for, how surprising the student finds the prompt (`prompt_surprisal`).
Layers above the highest one asked for are not run.

Axes: P prompts, B prompts of a batch, T tokens, D hidden, L layers, F features = 2 L D.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import Example, Message, encode_prompt
from persyn_ray.models.collate import batches_by_tokens, pad_right
from persyn_ray.models.likelihood import Likelihood

TOKENS_PER_BATCH = 2048
MAX_TOKENS = 256
SURPRISAL = ("mean", "deviation", "largest", "last", "log of the number of tokens")
"""Columns of `prompt_surprisal`: nats per token but for the last."""

Features = NDArray[np.float32]


class _Reached(Exception):
    """Ends a forward pass at the highest layer that is read."""


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    max_tokens: int = MAX_TOKENS,
) -> list[list[int]]:
    """Token ids of prompts as the student would answer them; long ones lose their beginning."""
    return [encode_prompt(tokenizer, messages)[-max_tokens:] for messages in conversations]


def middle_layer(model: PreTrainedModel) -> int:
    """The number of the layer in the middle."""
    return max(1, len(_layers(model)) // 2)


def prefill_features(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    layers: Sequence[int] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Features:
    """Features (P, F) of prompts given as token ids, in their order.

    Args:
        layers: numbers of layers, 1 for the first; by default the middle one and the last.

    Raises:
        ConfigError: the model has no such layer, or its layers cannot be found.
        DataError: a prompt has no token, or the model's states are not finite.
    """
    num = len(_layers(model))
    layers = [middle_layer(model), num] if layers is None else list(layers)
    if not layers or min(layers) < 1 or max(layers) > num:
        raise ConfigError(f"Layers {layers} of a model with {num}: give numbers from 1 to {num}.")
    if any(not row for row in rows):
        raise DataError("A prompt has no token: there is nothing that the student could read.")
    order: list[int] = []
    parts: list[Tensor] = []
    for numbers in batches_by_tokens([len(row) for row in rows], tokens_per_batch):
        ids_BT, mask_BT = pad_right([rows[number] for number in numbers], 0)
        states = _states(model, layers, ids_BT.to(model.device), mask_BT.to(model.device))
        parts.append(torch.cat([_pooled(state, mask_BT) for state in states], dim=1))
        order += numbers
    found = np.empty((len(rows), parts[0].shape[1] if parts else 0), dtype=np.float32)
    if parts:
        found[order] = torch.cat(parts).numpy()
    if not np.isfinite(found).all():
        raise DataError(
            f"{model.name_or_path or type(model).__name__} gives hidden states that are not finite "
            f"in {model.dtype}: its weights are broken, or it overflows (`student.dtype`)."
        )
    return found


def prompt_surprisal(likelihood: Likelihood, rows: Sequence[Sequence[int]]) -> Features:
    """How surprising the student finds prompts, shape (P, 5): the columns are `SURPRISAL`.

    The first token is given; a prompt of one token has no surprisal, and counts as 0.
    """
    scored = likelihood([Example(list(row), 1) for row in rows])
    found = np.zeros((len(rows), len(SURPRISAL)), dtype=np.float32)
    for number, (row, scores) in enumerate(zip(rows, scored, strict=True)):
        nats_T = -scores.log_probs
        if len(nats_T):
            found[number, :4] = nats_T.mean(), nats_T.std(), nats_T.max(), nats_T[-1]
        found[number, 4] = np.log(len(row))
    return found


def _states(
    model: PreTrainedModel, layers: Sequence[int], ids_BT: Tensor, mask_BT: Tensor
) -> list[Tensor]:
    """Hidden states (B, T, D) after each layer; the last layer's as the head sees them."""
    read: dict[int, Tensor] = {}
    decoder: Any = model.get_decoder()
    with torch.inference_mode(), _reading(model, layers, read):
        try:
            whole = decoder(ids_BT, attention_mask=mask_BT, use_cache=False)
            read[len(_layers(model))] = whole.last_hidden_state
        except _Reached:
            pass
    return [read[layer] for layer in layers]


@contextmanager
def _reading(
    model: PreTrainedModel, layers: Sequence[int], read: dict[int, Tensor]
) -> Iterator[None]:
    """Copies what the layers asked for give into `read`, and stops behind the highest of them."""
    found, highest = _layers(model), max(layers)

    def hook(layer: int) -> Any:
        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            read[layer] = output[0] if isinstance(output, tuple) else output
            if layer == highest < len(found):
                raise _Reached

        return keep

    hooks = [found[layer - 1].register_forward_hook(hook(layer)) for layer in set(layers)]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    config: Any = model.config.get_text_config()
    decoder: Any = model.get_decoder()
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            return list(module)
    raise ConfigError(
        f"The layers of {type(model).__name__} were not found: its decoder holds no list of "
        f"{config.num_hidden_layers} layers, so its states cannot be read."
    )


def _pooled(state_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """State of the last token beside the mean over tokens, (B, 2 D); padding counts for nothing."""
    state_BTD, num_B = state_BTD.float().cpu(), mask_BT.sum(dim=1)
    last_BD = state_BTD[torch.arange(len(num_B)), num_B - 1]
    mean_BD = (state_BTD * mask_BT[:, :, None]).sum(dim=1) / num_B[:, None]
    return torch.cat([last_BD, mean_BD], dim=1)
