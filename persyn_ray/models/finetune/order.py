"""Order of training examples: their lengths in, the examples of every global batch of an epoch out.

The order is a pure function of seed and epoch. It knows global batches alone, so that any number of
workers sees the same examples in every step, and a resumed epoch goes on where it was left.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

# Batches whose examples are sorted by length together: the more, the less padding and the less
# chance in who shares a batch.
BATCHES_SORTED_TOGETHER = 50


class GlobalBatches(Sampler[int]):
    """Numbers of examples, batch after batch; `blank` fills up the last batch of an epoch.

    Batches hold examples of about equal length, the longest first, in an order drawn for each
    epoch. A sampler of torch: whoever cuts it into micro-batches and deals these out to workers in
    turn gives every step the same examples, however many workers there are.

    Args:
        lengths: tokens of each example.
        batch_size: examples of a step, over all workers and accumulation.
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size, self._seed = batch_size, seed
        self.epoch = 0
        """The epoch that iterating gives."""

    @property
    def blank(self) -> int:
        """The number that stands for no example."""
        return len(self._lengths)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._lengths) // self._batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch * self._batch_size

    def __iter__(self) -> Iterator[int]:
        return iter(self.batches(self.epoch).ravel().tolist())

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """Examples (S steps, B of a batch) of an epoch; every example is in one of them."""
        draw = np.random.default_rng((self._seed, epoch))
        order = draw.permutation(len(self._lengths))
        stretch = BATCHES_SORTED_TOGETHER * self._batch_size
        parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        longest_first = [part[np.argsort(-self._lengths[part], kind="stable")] for part in parts]
        blanks = np.full(len(self) - len(order), self.blank)
        flat = np.concatenate([*longest_first, blanks])
        batches_SB = draw.permutation(flat.reshape(-1, self._batch_size))
        # The longest example comes at once: lack of memory shows in the first step.
        longest_S = np.append(self._lengths, 0)[batches_SB].max(axis=1)
        first = int(longest_S.argmax())
        batches_SB[[0, first]] = batches_SB[[first, 0]]
        return batches_SB

    def examples_of(self, step: int) -> NDArray[np.int64]:
        """Examples (B,) of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.batches(epoch)[place]
