"""Speed of a training: its steps and the clock in; tokens and arithmetic per second out.

Arithmetic is that of the model alone, as PaLM counts it (arXiv 2204.02311, appendix B): 6
operations a weight and token, 4 where adapters alone are trained (frozen weights get no gradients),
and 12 x layers x width x length for attention. Padding, recomputation and the optimiser count for
nothing.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from persyn_ray.models.finetune.order import GlobalBatches
from persyn_ray.models.finetune.token_table import TokenTable
from persyn_ray.storage.results import TrainingSpeed


class SpeedMeter(TrainerCallback):
    """Takes the time of the steps that this process trains, from its start or a checkpoint on."""

    def __init__(self) -> None:
        self._first = self._last = 0
        self._started = self._ended = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._first, self._started = state.global_step, time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last, self._ended = state.global_step, time.perf_counter()

    def speed(
        self, order: GlobalBatches, examples: TokenTable, model: PreTrainedModel
    ) -> TrainingSpeed | None:
        """What the steps came to; None where none was trained."""
        seconds = self._ended - self._started
        if self._last <= self._first or seconds <= 0:
            return None
        seen = np.concatenate([*_examples_of(order, self._first, self._last)])
        seen = seen[seen != order.blank]
        lengths = examples.lengths[seen]
        return TrainingSpeed(
            seconds=seconds,
            response_tokens=int((lengths - examples.num_prompt_tokens[seen]).sum()),
            tokens=int(lengths.sum()),
            flops=float(operations(model, lengths)),
        )


def whole_size(weight: Tensor) -> int:
    """Numbers in a weight, all of them where ZeRO-3 partitions it."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def operations(model: PreTrainedModel, lengths: NDArray[np.int64]) -> float:
    """Floating-point operations of training on examples of these lengths, forward and backward."""
    num, num_trained = 0, 0
    for weight in model.parameters():
        size = whole_size(weight)
        num += size
        num_trained += size if weight.requires_grad else 0
    config: Any = model.config.get_text_config()
    # A table of embeddings is looked up; the head, which may be the same, is multiplied by.
    embedded: Any = model.get_input_embeddings()
    if not getattr(config, "tie_word_embeddings", False) and embedded is not None:
        num -= whole_size(embedded.weight)
    per_weight = 6 if num_trained > 0.5 * num else 4
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    attention = 12.0 * layers * width * float((lengths.astype(np.float64) ** 2).sum())
    return per_weight * float(num) * float(lengths.sum()) + attention


def _examples_of(order: GlobalBatches, first: int, last: int) -> Iterator[NDArray[np.int64]]:
    """Examples of the steps from `first` up to `last`, epoch by epoch."""
    size = order.steps_per_epoch
    for epoch in range(first // size, -(-last // size)):
        begin, end = max(first - epoch * size, 0), min(last - epoch * size, size)
        yield order.batches(epoch)[begin:end].ravel()
