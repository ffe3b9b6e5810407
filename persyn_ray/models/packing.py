"""Packs responses behind their prompts: one sequence without padding, each prompt read once.

All responses to a prompt stand behind it in one sequence of N tokens:

    prompt 1 | response a | response b | prompt 2 | response a | ...

A response sees its prompt and itself, and counts its positions from the end of the prompt, so every
token meets exactly the context it would meet alone. The last token of a response predicts nothing
that is asked for and is left out. What attends to what is laid down here in blocks; this module
knows neither models nor tokenizers.

Axes: N packed tokens, R response tokens, Q queries of a block, K its keys.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from persyn_ray.models.chat import Example

BLOCK_TOKENS = 256
"""Queries of one block. A mask as large as a long response squared would be mostly empty."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Queries that stand together, and the keys they see: a stretch of the prompt, and their own
    response (or the prompt itself) up to them."""

    queries: Span
    prompt_keys: Span
    own_keys: Span
    num_before: int
    """Keys that stand before the first query."""
    is_causal: bool
    """Whether queries and keys are the same, and each sees all up to itself."""

    def mask(self, window: int | None, device: torch.device) -> Tensor:
        """Which keys each query sees, (Q, K): those before the block, and up to itself; at most
        `window` of them. Made anew each time: those of a long response would fill the memory."""
        num_queries = self.queries[1] - self.queries[0]
        shape = (num_queries, self.num_before + num_queries)
        mask_QK = torch.ones(shape, dtype=torch.bool, device=device).tril(self.num_before)
        return mask_QK if window is None else mask_QK.triu(self.num_before - window + 1)


@dataclass(frozen=True)
class Group:
    """Where a prompt and the responses behind it stand in the pack."""

    prompt: Span
    responses: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Pack:
    """Prompts and responses in one sequence, and which tokens are asked for."""

    ids: list[int]
    """Token ids, (N,)."""
    positions: list[int]
    """Position of each token in its own conversation, (N,)."""
    groups: tuple[Group, ...]
    rows: list[int]
    """Number of each packed example, in the order of their response tokens."""
    predictors: list[int]
    """Place of the token whose hidden state predicts each response token, (R,)."""
    targets: list[int]
    """The response tokens, (R,)."""
    windows: set[int | None] = field(default_factory=set)
    """Windows that a model's layers have asked for."""
    _blocks: dict[int | None, list[Block]] = field(default_factory=dict)

    def blocks(self, window: int | None = None) -> list[Block]:
        """Blocks of attention that cover the pack; with a window, a token sees so many back."""
        if window not in self._blocks:
            self._blocks[window] = [
                block
                for group in self.groups
                for span in (group.prompt, *group.responses)
                for block in _blocks(group.prompt, span, window)
            ]
        return self._blocks[window]


def packs(examples: Sequence[Example], tokens_per_pack: int) -> Iterator[Pack]:
    """Every example in one pack of at most so many tokens; longest first.

    Examples with the same prompt share it. A group that exceeds a pack is parted, and its prompt
    read once in every part; an example that exceeds one makes a pack by itself. Longest first: lack
    of memory shows at once.
    """
    waiting: list[list[int]] = []
    num_waiting = 0
    for group in _groups(examples, tokens_per_pack):
        size = _size(examples, group)
        if waiting and num_waiting + size > tokens_per_pack:
            yield _pack(examples, waiting)
            waiting, num_waiting = [], 0
        waiting.append(group)
        num_waiting += size
    if waiting:
        yield _pack(examples, waiting)


def _groups(examples: Sequence[Example], most: int) -> list[list[int]]:
    """Rows with the same prompt, parted where they exceed `most` tokens together."""
    of_prompt: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(range(len(examples)), key=lambda row: -len(examples[row].ids)):
        example = examples[row]
        of_prompt.setdefault(tuple(example.ids[: example.num_prompt_tokens]), []).append(row)
    parts: list[list[int]] = []
    for prompt, rows in of_prompt.items():
        parts.append([])
        size = len(prompt)
        for row in rows:
            added = examples[row].num_response_tokens - 1
            if parts[-1] and size + added > most:
                parts.append([])
                size = len(prompt)
            parts[-1].append(row)
            size += added
    return sorted(parts, key=lambda rows: -len(examples[rows[0]].ids))


def _size(examples: Sequence[Example], rows: Sequence[int]) -> int:
    tails = sum(examples[row].num_response_tokens - 1 for row in rows)
    return examples[rows[0]].num_prompt_tokens + tails


def _pack(examples: Sequence[Example], groups: Sequence[Sequence[int]]) -> Pack:
    pack = Pack([], [], tuple(_layout(examples, groups)), [], [], [])
    for rows, group in zip(groups, pack.groups, strict=True):
        num_prompt = examples[rows[0]].num_prompt_tokens
        pack.ids.extend(examples[rows[0]].ids[:num_prompt])
        pack.positions.extend(range(num_prompt))
        for row, (start, end) in zip(rows, group.responses, strict=True):
            response = examples[row].ids[num_prompt:]
            pack.ids.extend(response[:-1])
            pack.positions.extend(range(num_prompt, num_prompt + end - start))
            pack.rows.append(row)
            pack.predictors.extend([group.prompt[1] - 1, *range(start, end)])
            pack.targets.extend(response)
    return pack


def _layout(examples: Sequence[Example], groups: Sequence[Sequence[int]]) -> Iterator[Group]:
    place = 0
    for rows in groups:
        prompt = (place, place + examples[rows[0]].num_prompt_tokens)
        place = prompt[1]
        responses: list[Span] = []
        for row in rows:
            responses.append((place, place + examples[row].num_response_tokens - 1))
            place = responses[-1][1]
        yield Group(prompt, tuple(responses))


def _blocks(prompt: Span, span: Span, window: int | None) -> Iterator[Block]:
    """Blocks of one prompt (`span` is `prompt`) or of one response."""
    start, end = span
    offset = 0 if span == prompt else prompt[1] - prompt[0]
    for first in range(start, end, BLOCK_TOKENS):
        last = min(first + BLOCK_TOKENS, end)
        # Positions in the conversation: of the block's first query, and of the first key it sees.
        position = offset + first - start
        oldest = 0 if window is None else max(0, position - window + 1)
        prompt_keys = (prompt[0] + min(oldest, offset), prompt[0] + offset)
        own_keys = (start + max(0, oldest - offset), last)
        num_before = position - oldest
        is_causal = num_before == 0 and (window is None or window >= last - first)
        yield Block((first, last), prompt_keys, own_keys, num_before, is_causal)
