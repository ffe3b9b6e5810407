"""Batched autoregressive decoding with a KV cache: greedy, or sampling with a seed per row.

Rows that have ended leave the batch, so that one long response does not hold up a hundred short
ones. `generate` of transformers keeps every row to the end and works out a full mask each step: on
one CPU thread with tiny models it took 1.6 to 3.5 times as long, the more mixed the lengths. Only
what the recipe says shapes the text: other settings of a model's generation config are not used.

Axes: B rows, T tokens of prompt (left-padded), V vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from persyn_ray.data.selection import seeded_draw

# Rows leave the batch once a tenth of it has ended: moving the cache costs about one step.
FULL_ENOUGH = 0.9
# The first tokens of a tail may be parts of a character, or read differently without the rest.
EDGE_TOKENS = 8


@dataclass(frozen=True)
class Draws:
    """How the next token is drawn: greedily at temperature 0, else from the nucleus.

    Each row draws from a generator of its own, so its response does not depend on the rows beside
    it (but for the rounding of the logits).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def uniforms(self, keys: Sequence[str], num_steps: int) -> Tensor:
        """Numbers in 0..1, one for each row and step; rows are known by their keys."""
        if self.temperature == 0:
            return torch.zeros(len(keys), 0)
        rows = [torch.rand(num_steps, generator=self._generator(key)) for key in keys]
        return torch.stack(rows)

    def next_tokens(self, logits_BV: Tensor, uniform_B: Tensor | None) -> Tensor:
        """Ids drawn by turning each row's uniform number into a place in its cumulated chances."""
        if self.temperature == 0 or uniform_B is None:
            return logits_BV.argmax(-1)
        chances_BV, order_BV = (logits_BV.float() / self.temperature).softmax(-1).sort(-1, True)
        sums_BV = chances_BV.cumsum(-1)
        # A token is in the nucleus when those before it have not filled it; the first always is.
        num_kept_B = (sums_BV - chances_BV < self.top_p).sum(-1).clamp(min=1)
        mass_B = sums_BV.gather(-1, num_kept_B[:, None] - 1)
        place_B = (sums_BV < uniform_B[:, None] * mass_B).sum(-1)
        place_B = torch.minimum(place_B, num_kept_B - 1)
        return order_BV.gather(-1, place_B[:, None])[:, 0]

    def _generator(self, key: str) -> torch.Generator:
        return torch.Generator().manual_seed(seeded_draw(self.seed, key) >> 1)


@dataclass(frozen=True)
class Stops:
    """Texts that end a row once it has written one of them.

    Each step looks at the last tokens alone, of which every one is a byte of text at least. A text
    that hides between tokens without text ends no row, but is still found by `place`.
    """

    texts: tuple[str, ...]
    to_texts: Callable[[list[list[int]]], list[str]]
    """How a tokenizer writes rows of ids."""

    @property
    def num_tokens(self) -> int:
        """Most tokens that any of the texts can take, and where it may begin inside a character."""
        return max(len(stop.encode()) for stop in self.texts) + EDGE_TOKENS

    def place(self, text: str) -> int | None:
        """Where the first of the texts begins."""
        places = [text.find(stop) for stop in self.texts]
        return min((place for place in places if place >= 0), default=None)

    def reached(self, tails: list[list[int]]) -> list[bool]:
        """Which rows hold one of the texts in their last tokens."""
        return [self.place(text) is not None for text in self.to_texts(tails)]


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    end_ids: frozenset[int],
    draws: Draws,
    keys: Sequence[str],
    stops: Stops | None = None,
) -> list[list[int]]:
    """Ids that the model writes after each prompt, at most its limit.

    A row ends with an end token or with the token that completes one of the `stops`.

    Raises:
        ArithmeticError: the model gave no numbers (overflow in a short number format, say).
    """
    device = model.device
    batch = _Batch.of(prompts, device)
    limits_B = torch.tensor(limits, device=device)
    uniforms = draws.uniforms(keys, max(limits)).to(device)
    ends = torch.tensor(sorted(end_ids), device=device, dtype=torch.long)
    written = torch.zeros(len(prompts), max(limits), dtype=torch.long, device=device)
    lengths = limits_B.clone()
    settings = _settings(model)
    for step in range(max(limits)):
        rows_B = batch.rows_B
        logits_BV = batch.forward(model, settings)
        next_B = draws.next_tokens(logits_BV, uniforms[rows_B, step] if uniforms.numel() else None)
        written[rows_B, step] = next_B
        has_ended_B = torch.isin(next_B, ends) | (step + 1 >= limits_B[rows_B])
        if stops is not None:
            tail = slice(max(0, step + 1 - stops.num_tokens), step + 1)
            reached = stops.reached(written[rows_B, tail].tolist())
            has_ended_B |= torch.tensor(reached, device=device)
        has_ended_B &= batch.is_running_B
        lengths[rows_B[has_ended_B]] = step + 1
        batch.is_running_B &= ~has_ended_B
        if not batch.is_running_B.any():
            break
        batch.advance(next_B)
    return [ids[:length] for ids, length in zip(written.tolist(), lengths.tolist(), strict=True)]


@dataclass
class _Batch:
    """Rows that are decoded together: what the model reads next, and its cache of what it read."""

    ids_BT: Tensor
    mask_BT: Tensor
    positions_BT: Tensor
    rows_B: Tensor
    """Which prompt each row is."""
    is_running_B: Tensor
    cache: Any = None

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device) -> "_Batch":
        """All prompts, none of them read yet."""
        ids_BT, mask_BT = _left_padded(prompts, device)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        rows_B = torch.arange(len(prompts), device=device)
        is_running_B = torch.ones_like(rows_B, dtype=torch.bool)
        return cls(ids_BT, mask_BT, positions_BT, rows_B, is_running_B)

    def forward(self, model: PreTrainedModel, settings: dict[str, int]) -> Tensor:
        """The logits (B, V) of each row's next token."""
        output: Any = model(
            input_ids=self.ids_BT,
            attention_mask=self.mask_BT,
            position_ids=self.positions_BT,
            past_key_values=self.cache,
            use_cache=True,
            **settings,
        )
        self.cache, logits_BV = output.past_key_values, output.logits[:, -1]
        if bool(logits_BV.isnan().any()):
            raise ArithmeticError("the model's logits are not numbers (NaN)")
        return logits_BV

    def advance(self, next_B: Tensor) -> None:
        """Append each row's token; rows that have ended leave once they are many."""
        if int(self.is_running_B.sum()) <= FULL_ENOUGH * len(self.rows_B):
            kept = self.is_running_B.nonzero()[:, 0]
            self.cache.batch_select_indices(kept)
            next_B, self.rows_B, self.mask_BT, self.positions_BT, self.is_running_B = (
                tensor[kept]
                for tensor in (
                    *(next_B, self.rows_B, self.mask_BT, self.positions_BT),
                    self.is_running_B,
                )
            )
        self.ids_BT = next_B[:, None]
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(self.rows_B), 1)], dim=1)
        self.positions_BT = self.positions_BT[:, -1:] + 1


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts with their ends aligned, and 1 where a token is real; padding is never looked at."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _settings(model: PreTrainedModel) -> dict[str, int]:
    """Ask for the last position's logits alone: those of whole prompts fill gigabytes."""
    accepted = inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
