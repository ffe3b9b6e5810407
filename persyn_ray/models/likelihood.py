"""The student's forward pass over responses, the raw material of learnability (Eq. 1).

Responses to one prompt are packed behind it, without padding, and the prompt is read once; the head
is applied only where it predicts a response token, and reduced at once. Peak memory depends on
`tokens_per_batch`, neither on the length of responses nor on the number of teachers.

A model whose attention cannot be replaced, or that does not give in a pack what it gives alone, is
run on padded batches instead; one whose logits are not simply its head on its hidden states is run
as a whole. Both are found out on a few tokens before anything is scored, so that every model is
scored right, and most are scored fast.

Axes: B rows, T tokens, N packed tokens, R response tokens, D hidden. This module does not tokenise,
truncate or take means.
"""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from persyn_ray.errors import DataError
from persyn_ray.models.attention import active_window, has_interface, packed_attention
from persyn_ray.models.chat import Example
from persyn_ray.models.collate import IGNORED, batches_by_tokens, sft_collator
from persyn_ray.models.head import Head, NoHead, RowScores
from persyn_ray.models.load import context_length
from persyn_ray.models.packing import Pack, packs

log = logging.getLogger(__name__)

PROBE = (Example([5, 3, 8, 6, 2, 7, 4], 3), Example([5, 3, 8, 2, 9], 3), Example([4, 6, 5], 1))
"""Two responses to one prompt and one to another, for comparing ways to run a model."""


@dataclass(frozen=True)
class TokenScores:
    """What the student makes of each token of a response; arrays of shape (T,)."""

    log_probs: NDArray[np.float64]
    """Log-probability, nats, at most 0 up to rounding."""
    ranks: NDArray[np.int64]
    """1 where the student found no other token likelier."""
    entropies: NDArray[np.float64] | None
    """Entropy of the student's prediction, nats; None where a backend does not know it."""


class Likelihood:
    """A language model made ready for scoring responses."""

    def __init__(self, model: PreTrainedModel, tokens_per_batch: int = 8192) -> None:
        self.model = model.eval()
        self.tokens_per_batch = tokens_per_batch
        with torch.inference_mode():
            self._hidden, self._head = _parts(model)
            self.is_packed = has_interface(model) and self._packs_alike()
        self._turning_length = _turning_length(model)

    def __call__(
        self, examples: Sequence[Example], names: Sequence[str] | None = None
    ) -> list[TokenScores]:
        """Scores of every example's response tokens, in input order; `names` are for errors.

        Raises:
            DataError: an example is longer than the context or has no prompt, or the model's logits
            are not finite.
        """
        names = names or [f"Row {row}" for row in range(len(examples))]
        for example, name in zip(examples, names, strict=True):
            _require_scorable(self.model, example, name)
        found = [TokenScores(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0))] * len(examples)
        full = [row for row, example in enumerate(examples) if example.num_response_tokens]
        # Such a model turns positions otherwise for all once one conversation is this long.
        apart = [row for row in full if len(examples[row].ids) > self._turning_length]
        together = [row for row in full if len(examples[row].ids) <= self._turning_length]
        parts = [together, *([row] for row in apart)]
        with torch.inference_mode():
            for rows in filter(None, parts):
                is_packed = self.is_packed and rows is together
                run = self._packed if is_packed else self._padded
                with closing(run([examples[row] for row in rows])) as scored:
                    for number, scores in scored:
                        found[rows[number]] = _checked(scores, names[rows[number]], self.model)
        return found

    def _packed(self, examples: Sequence[Example]) -> Generator[tuple[int, RowScores]]:
        for pack in packs(examples, self.tokens_per_batch):
            yield from self._scored(pack, examples)

    def _scored(self, pack: Pack, examples: Sequence[Example]) -> Iterator[tuple[int, RowScores]]:
        with packed_attention(self.model):
            hidden_RD = self.hidden_states(pack)[pack.predictors]
        scores = self._head.scores(hidden_RD, torch.tensor(pack.targets))
        lengths = [examples[row].num_response_tokens for row in pack.rows]
        yield from zip(pack.rows, _split(scores, lengths), strict=True)

    def hidden_states(self, pack: Pack) -> Tensor:
        """Hidden states (N, D) of a pack, within `packed_attention`."""
        ids_1N, positions_1N = (
            torch.tensor([values], device=self.model.device)
            for values in (pack.ids, pack.positions)
        )
        return self._hidden(ids_1N, None, position_ids=positions_1N, packing=pack)[0]

    def _padded(self, examples: Sequence[Example]) -> Generator[tuple[int, RowScores]]:
        lengths = [len(example.ids) for example in examples]
        for rows in batches_by_tokens(lengths, self.tokens_per_batch):
            batch = [examples[row] for row in rows]
            padded = sft_collator(batch, pad_id=0)  # the very mask of fine-tuning
            ids_BT, mask_BT = padded["input_ids"], padded["attention_mask"]
            # Token t is predicted by the hidden state of token t - 1.
            row_R, token_R = (padded["labels"][:, 1:] != IGNORED).nonzero(as_tuple=True)
            hidden_BTD = self._hidden(ids_BT.to(self.model.device), mask_BT.to(self.model.device))
            hidden_RD = hidden_BTD[row_R.to(hidden_BTD.device), token_R.to(hidden_BTD.device)]
            scores = self._head.scores(hidden_RD, ids_BT[row_R, token_R + 1])
            counts = [example.num_response_tokens for example in batch]
            yield from zip(rows, _split(scores, counts), strict=True)

    def _packs_alike(self) -> bool:
        """Whether a small pack gives what the model gives for each example alone."""
        probe = [_within(self.model, example) for example in PROBE]
        alone = dict(self._padded(probe))
        window = active_window(self.model)
        try:
            (pack,) = packs(probe, 1_000)
            packed = dict(self._scored(pack, probe))
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:  # no positions, no such attention
            log.info("%s is not packed but padded: %s", type(self.model).__name__, error)
            return False
        # A window that goes by the mask alone would be lost, and the probe is shorter than it.
        return (window is None or window in pack.windows) and all(
            _is_close(packed[row].log_probs, alone[row].log_probs, self.model.dtype)
            for row in range(len(probe))
        )


def _turning_length(model: PreTrainedModel) -> float:
    """Length from which on a model turns the positions of all conversations of a call otherwise.

    So do rotary positions of the kinds `longrope` (Phi) and `dynamic`: longer conversations are
    scored alone.
    """
    config: Any = model.config.get_text_config()
    given: Any = getattr(config, "rope_parameters", None) or {}
    kinds = [given] if "rope_type" in given else [one for one in given.values() if one]
    lengths = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings
        for kind in kinds
        if isinstance(kind, dict) and kind.get("rope_type") in ("longrope", "dynamic")
    ]
    return min(lengths, default=math.inf)


def _require_scorable(model: PreTrainedModel, example: Example, name: str) -> None:
    limit = context_length(model)
    if limit is not None and len(example.ids) > limit:
        raise DataError(
            f"{name} has {len(example.ids)} tokens, more than the model's context of {limit}: "
            "leave it out or cut it (`scoring.max_length`, `scoring.too_long`)."
        )
    if example.num_prompt_tokens < 1:
        raise DataError(f"{name} has no prompt tokens: nothing predicts its first response token.")


def _checked(scores: RowScores, name: str, model: PreTrainedModel) -> TokenScores:
    log_probs, entropies = scores.log_probs.double().numpy(), scores.entropies.double().numpy()
    broken = np.flatnonzero(~(np.isfinite(log_probs) & np.isfinite(entropies)))
    if broken.size:
        values = f"log-probability {log_probs[broken[0]]}, entropy {entropies[broken[0]]}"
        raise DataError(
            f"{model.name_or_path or type(model).__name__} gives {values} for token {broken[0]} "
            f"of the response of {name} in {model.dtype}: the model overflows or its weights are "
            "broken. float32 or bfloat16 is safer than float16 (`student.dtype`)."
        )
    return TokenScores(log_probs, scores.ranks.long().numpy(), entropies)


def _split(scores: RowScores, lengths: Sequence[int]) -> Iterator[RowScores]:
    columns = (scores.log_probs, scores.ranks, scores.entropies)
    for parts in zip(*(column.split(list(lengths)) for column in columns), strict=True):
        yield RowScores(*parts)


def _within(model: PreTrainedModel, example: Example) -> Example:
    """A probe in the model's own vocabulary."""
    embedding: Any = model.get_input_embeddings()
    size = embedding.weight.shape[0]
    return Example([token % size for token in example.ids], example.num_prompt_tokens)


def _is_close(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    return torch.allclose(one.float(), other.float(), tolerance, tolerance, equal_nan=True)


def _parts(model: PreTrainedModel) -> tuple[Any, Head | NoHead]:
    """The model in two parts whose chain gives its logits, or as a whole.

    Families scale or cap their logits each in its own way, even under one attribute name (Granite
    divides by `logits_scaling`, HyperCLOVA X multiplies). So the chain is compared with the model's
    own forward on a few tokens; where they differ, the whole model is run: right for any model, but
    with all logits at once.
    """
    ids_BT = torch.tensor([_within(model, PROBE[0]).ids], device=model.device)
    whole: Any = _runner(model, "logits")
    # Exactly torch's own: quantised layers are its subclasses and keep their weights packed.
    is_linear = type(model.get_output_embeddings()) is torch.nn.Linear
    if model.get_decoder() is not model and is_linear:
        hidden, head = _runner(model.get_decoder(), "last_hidden_state"), Head(model)
        chained_TV = head.logits(hidden(ids_BT, torch.ones_like(ids_BT))[0])
        whole_TV = whole(ids_BT, torch.ones_like(ids_BT))[0]
        if _is_close(chained_TV, whole_TV, model.dtype):
            return hidden, head
    return whole, NoHead()


def _runner(module: Any, output: str) -> Callable[..., Tensor]:
    def run(ids_BT: Tensor, mask_BT: Tensor | None, **settings: Any) -> Tensor:
        found = module(ids_BT, attention_mask=mask_BT, use_cache=False, **settings)
        return getattr(found, output)

    return run
