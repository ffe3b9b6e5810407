"""Lists of token ids become padded tensors; rows are grouped into batches of about equal length.

Axes: B rows of a batch, T tokens, M teachers. This module does not tokenise and does not truncate.
"""

from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from persyn_ray.models.chat import Example

IGNORED = -100  # the label that torch's cross-entropy leaves out


class Targets(TypedDict, total=False):
    """What a router is fitted to on a prompt; what its loss reads must be there."""

    wins: ArrayLike
    """(M, M)."""
    rewards: ArrayLike
    """(M,), NaN where unknown."""


class TokenRow(Targets):
    """A prompt that a router is fitted on, by its token ids (T,)."""

    input_ids: list[int]


class FeatureRow(Targets):
    """A prompt that a router's head is fitted on, by its features (D,) of the frozen backbone."""

    features: Tensor
    input_ids: NotRequired[list[int]]


RouterRow = TokenRow | FeatureRow


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, multiple_of: int = 1
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (B, T), with T a multiple of `multiple_of`."""
    longest = max(len(row) for row in rows)
    width = -(-longest // multiple_of) * multiple_of
    input_ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        input_ids_BT[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask_BT[number, : len(row)] = 1
    return input_ids_BT, mask_BT


def sft_collator(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """A batch for fine-tuning: labels are the response tokens, -100 elsewhere."""
    input_ids_BT, mask_BT = pad_right([example.ids for example in examples], pad_id)
    labels_BT = input_ids_BT.masked_fill(mask_BT == 0, IGNORED)
    for number, example in enumerate(examples):
        labels_BT[number, : example.num_prompt_tokens] = IGNORED
    return {"input_ids": input_ids_BT, "attention_mask": mask_BT, "labels": labels_BT}


def router_collator(rows: Sequence[TokenRow], pad_id: int) -> dict[str, Tensor]:
    """A batch for the router: rows hold `input_ids` (T,), and `wins` (M, M) or `rewards` (M,)."""
    input_ids_BT, mask_BT = pad_right([row["input_ids"] for row in rows], pad_id)
    return {"input_ids": input_ids_BT, "attention_mask": mask_BT, **_targets(rows)}


def feature_collator(rows: Sequence[FeatureRow]) -> dict[str, Tensor]:
    """A batch for a router's head: rows hold `features` (D,) in place of token ids."""
    return {"features": torch.stack([row["features"] for row in rows]), **_targets(rows)}


def _targets(rows: Sequence[Targets]) -> dict[str, Tensor]:
    """What the router is fitted to: `wins` (B, M, M) and `rewards` (B, M), where rows have them."""
    given = {
        "wins": [row["wins"] for row in rows if "wins" in row],
        "rewards": [row["rewards"] for row in rows if "rewards" in row],
    }
    return {
        name: torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in values])
        for name, values in given.items()
        if values
    }


def batches_by_tokens(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Row numbers in batches, longest rows first; padded, each batch holds at most so many tokens.

    A row longer than that makes a batch by itself. Longest first: lack of memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    start = 0
    while start < len(order):
        count = max(1, tokens_per_batch // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count
