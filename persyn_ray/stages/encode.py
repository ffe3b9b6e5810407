"""Encode: a method's examples as token ids with their response mask, as fine-tuning takes them.

An example that is too long, or that the student's chat template cannot carry, is left out and
counted.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import DataError, StepError
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.template_check import require_sound_template
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import run_of


@dataclass(frozen=True)
class LeftOut:
    """Examples that a student is not tuned on."""

    num_too_long: int
    num_unreadable: int
    first_unreadable: str | None
    """What the chat template does to the first of them."""


def encoded_examples(
    recipe: Recipe, method: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Example], LeftOut]:
    """The examples that fit, in the order of their shards, and what became of the others.

    Raises:
        ConfigError: the chat template breaks every conversation.
        StepError: no example is left.
    """
    kwargs, longest = recipe.student.template_kwargs, recipe.finetune.max_length
    require_sound_template(tokenizer, kwargs)
    kept: list[Example] = []
    num_too_long = 0
    unreadable: list[str] = []
    for _, table in run_of(recipe).examples(method).tables():
        for messages in table["messages"].to_pylist():
            try:
                example = encode_example(tokenizer, messages[:-1], messages[-1]["content"], kwargs)
            except DataError as error:  # of this row alone: the template itself is sound
                unreadable.append(str(error))
                continue
            num_too_long += len(example.ids) > longest
            if len(example.ids) <= longest:
                kept.append(example)
    if not kept:
        raise StepError(
            f"No example of method {method} is left: {num_too_long} are longer than "
            f"finetune.max_length {longest}, and {len(unreadable)} are unreadable for the student"
            + (f". The first: {unreadable[0]}" if unreadable else ".")
        )
    first = unreadable[0] if unreadable else None
    return kept, LeftOut(num_too_long, len(unreadable), first)
