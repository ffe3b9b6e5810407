"""Encode: a method's examples as token ids with their response mask, as fine-tuning takes them.

An example that is too long is left out, cut, or an error, as the recipe says; one that the
student's chat template cannot carry is left out. Both are counted, the former by teacher: it hits
teachers that think at length.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import DataError, StepError
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.templates.check import require_sound_template
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.storage.schemas import TOKENS

TooLong = Literal["drop", "truncate", "raise"]
ROWS_AT_ONCE = 1024


@dataclass
class LeftOut:
    """What became of the examples that a student is not tuned on as they are."""

    too_long: Counter[str] = field(default_factory=Counter)
    """Left out or cut for their length, by teacher."""
    num_unreadable: int = 0
    first_unreadable: str | None = None
    """What the chat template does to the first of them."""

    def add(self, other: "LeftOut") -> None:
        """Count what another worker has met as well."""
        self.too_long.update(other.too_long)
        self.num_unreadable += other.num_unreadable
        self.first_unreadable = self.first_unreadable or other.first_unreadable


class Encoder:
    """Examples to token ids.

    Args:
        longest: tokens that an example may have.

    Raises:
        ConfigError: the chat template breaks every conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        student: StudentConfig,
        longest: int,
        too_long: TooLong = "drop",
    ) -> None:
        require_sound_template(tokenizer, student.template_kwargs)
        self._encode = partial(
            encode_example,
            tokenizer,
            template_kwargs=student.template_kwargs,
            end_of_turn=student.end_of_turn,
        )
        self._longest, self._too_long = longest, too_long
        self.left_out = LeftOut()

    def __call__(self, tables: Iterable[pa.Table]) -> pa.Table:
        """Tables of the schema EXAMPLES in, one of TOKENS out.

        Raises:
            StepError: an example is too long, and the recipe wants to know.
        """
        parts: list[pa.Table] = []
        for table in tables:
            for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
                rows = [kept for row in batch.to_pylist() if (kept := self._encoded(row))]
                parts.append(pa.Table.from_pylist(rows, schema=TOKENS))
        return pa.concat_tables(parts) if parts else TOKENS.empty_table()

    def _encoded(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        *prompt, response = row["messages"]
        try:
            example = self._encode(prompt, response["content"])
        except DataError as error:  # of this row alone: the template itself is sound
            self.left_out.num_unreadable += 1
            self.left_out.first_unreadable = self.left_out.first_unreadable or str(error)
            return None
        if len(example.ids) > self._longest:
            self.left_out.too_long[row["teacher"]] += 1
            return self._cut(row, example)
        return _row(row, example.ids, example.num_prompt_tokens)

    def _cut(self, row: Mapping[str, Any], example: Example) -> dict[str, Any] | None:
        if self._too_long == "raise":
            raise StepError(
                f"The response of {row['teacher']} to prompt {row['prompt_id']} has "
                f"{len(example.ids)} tokens with its prompt, more than finetune.max_length "
                f"{self._longest}: raise it, or set finetune.too_long to drop or truncate."
            )
        if self._too_long == "drop" or example.num_prompt_tokens >= self._longest:
            return None
        return _row(row, example.ids[: self._longest], example.num_prompt_tokens)


def _row(row: Mapping[str, Any], ids: list[int], num_prompt_tokens: int) -> dict[str, Any]:
    return {"prompt_id": row["prompt_id"], "ids": ids, "num_prompt_tokens": num_prompt_tokens}


def require_examples(method: str, num_examples: int, longest: int, left_out: LeftOut) -> None:
    """Refuse to tune a student on nothing.

    Raises:
        StepError: no example is left.
    """
    if num_examples:
        return
    first = left_out.first_unreadable
    raise StepError(
        f"No example of method {method} is left: {left_out.too_long.total()} are longer than "
        f"finetune.max_length {longest}, and {left_out.num_unreadable} are unreadable for the "
        "student" + (f". The first: {first}" if first else ".")
    )
