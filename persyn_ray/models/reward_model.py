"""Quality from a reward model: one scalar for a prompt and its response, on its own scale (r_q).

The model is a sequence classifier with a single output. It reads the conversation through its own
chat template, or, without one, as a pair of texts. This module does not scale the scores.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.errors import DataError
from persyn_ray.models.chat import Message, encode_prompt
from persyn_ray.models.collate import batches_by_tokens, pad_right
from persyn_ray.models.load import context_length
from persyn_ray.models.names import loaded_name
from persyn_ray.models.sanitize import escape_special_tokens

Conversation = tuple[Sequence[Message], str]
Row = dict[str, list[int]]


def reward_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    tokens_per_batch: int = 8192,
    max_length: int | None = None,
    labels: Sequence[str] | None = None,
) -> list[float]:
    """Score of each (messages, response), in input order.

    A conversation longer than `max_length` tokens, or than the model's context, loses its
    beginning: the response has to stay.

    Args:
        labels: what an error calls each conversation; its number by default.

    Raises:
        DataError: the model has more than one output, or a score is not finite.
    """
    limit = longest(model, max_length)
    rows = [
        encode_conversation(tokenizer, messages, response, limit)
        for messages, response in conversations
    ]
    return scores_of_rows(model, rows, tokens_per_batch, labels)


@torch.inference_mode()
def scores_of_rows(
    model: PreTrainedModel,
    rows: Sequence[Row],
    tokens_per_batch: int = 8192,
    labels: Sequence[str] | None = None,
) -> list[float]:
    """Score of each tokenised conversation (see `encode_conversation`), in input order.

    Raises:
        DataError: the model has more than one output, or a score is not finite.
    """
    if model.config.num_labels != 1:
        raise DataError(
            f"A reward model has one output; {loaded_name(model)} has {model.config.num_labels}: "
            "name another under `model` of the reward model in `scoring.quality`."
        )
    model.eval()
    scores = [math.nan] * len(rows)
    for numbers in batches_by_tokens([len(row["input_ids"]) for row in rows], tokens_per_batch):
        batch = _score_batch(model, [rows[number] for number in numbers])
        for number, score in zip(numbers, batch, strict=True):
            scores[number] = score
    _require_finite(scores, model, labels)
    return scores


def longest(model: PreTrainedModel, max_length: int | None) -> int | None:
    """Most tokens of a conversation: as the recipe says, within the model's context."""
    lengths = [length for length in (max_length, context_length(model)) if length is not None]
    return min(lengths, default=None)


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    response: str,
    max_length: int | None,
) -> Row:
    """Token ids; for a pair of texts also which of the two each token is of.

    Raises:
        DataError: the chat template refuses the conversation.
    """
    if tokenizer.chat_template:
        answered = [*messages, Message(role="assistant", content=response)]
        ids = encode_prompt(tokenizer, answered, add_generation_prompt=False)
        return {"input_ids": ids if max_length is None else ids[-max_length:]}
    prompt = "\n\n".join(message["content"] for message in messages)
    # The ids of the pair are cut inside the texts: an encoder wants its marks at both ends.
    encoded = tokenizer(
        escape_special_tokens(tokenizer, prompt),
        escape_special_tokens(tokenizer, response),
        truncation="longest_first",
        max_length=min(max_length or tokenizer.model_max_length, tokenizer.model_max_length),
    )
    return {key: encoded[key] for key in ("input_ids", "token_type_ids") if key in encoded}


def _score_batch(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    config: Any = model.config.get_text_config()
    own_pad_id = config.pad_token_id
    # Decoders score the last token that is not the padding token, so padding must be no row's last
    # token. A model that names a padding token was trained with this rule and keeps it.
    pad_id = _unused_last(rows) if own_pad_id is None else own_pad_id
    input_ids_BT, mask_BT = pad_right([row["input_ids"] for row in rows], pad_id)
    inputs = {"input_ids": input_ids_BT, "attention_mask": mask_BT}
    if "token_type_ids" in rows[0]:
        inputs["token_type_ids"], _ = pad_right([row["token_type_ids"] for row in rows], 0)
    config.pad_token_id = pad_id
    try:
        logits_B1 = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
    finally:
        config.pad_token_id = own_pad_id
    return logits_B1[:, 0].double().tolist()


def _unused_last(rows: Sequence[Row]) -> int:
    taken = {row["input_ids"][-1] for row in rows}
    return next(token for token in range(len(taken) + 1) if token not in taken)


def _require_finite(
    scores: Sequence[float], model: PreTrainedModel, labels: Sequence[str] | None
) -> None:
    broken = [row for row, score in enumerate(scores) if not math.isfinite(score)]
    if broken:
        first = broken[0]
        label = f"row {first}" if labels is None else labels[first]
        raise DataError(
            f"The reward model {loaded_name(model)} gives {scores[first]} for {label} in "
            f"{model.dtype} ({len(broken)} of {len(scores)} rows are not finite): try `dtype: "
            "bfloat16` or `float32` under `model` of the reward model in `scoring.quality`."
        )
