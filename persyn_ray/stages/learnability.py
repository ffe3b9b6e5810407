"""Learnability: prompts and responses in, raw measures of the student's forward pass out.

The measures are stored as they are; which of them counts, and scaling, are applied later, on the
driver. A response that was cut is scored like any other.
"""

from typing import Any

import pyarrow as pa

from persyn_ray.config import Responses
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.likelihood import response_likelihoods
from persyn_ray.models.load import context_length, load_causal_lm, load_tokenizer, on_device
from persyn_ray.schemas import LEARNABILITY, conform
from persyn_ray.sections import Model
from persyn_ray.stages.pairing import paired


class Learnability:
    """Mean log-likelihood of each response under the student (Eq. 1), in nats per token."""

    writes = LEARNABILITY

    def __init__(
        self,
        student: Model,
        tokens_per_batch: int,
        max_length: int | None = None,
        responses: Responses | None = None,
    ) -> None:
        code = student.trust_remote_code
        self.model = on_device(load_causal_lm(student.name, student.dtype, student.revision, code))
        self.tokenizer = load_tokenizer(student.name, student.revision, student.chat_template, code)
        self.tokens_per_batch, self.section = tokens_per_batch, responses
        self.max_length = min(
            length for length in (max_length, context_length(self.model.config), 1 << 30) if length
        )

    def __call__(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        rows = paired(prompts, responses, self.section)
        examples = [self._example(row) for row in rows]
        fitting = [example for example in examples if example is not None]
        found = iter(response_likelihoods(self.model, fitting, self.tokens_per_batch))
        scores = [None if example is None else next(found) for example in examples]
        table = pa.Table.from_pylist(
            [
                {
                    "prompt_id": row["prompt_id"],
                    "teacher": row["teacher"],
                    "learnability": score.mean if score is not None and score.num_tokens else None,
                    "num_tokens": score.num_tokens if score is not None else 0,
                }
                for row, score in zip(rows, scores, strict=True)
            ],
            schema=LEARNABILITY,
        )
        return conform(table, LEARNABILITY, "learnability")

    def _example(self, row: dict[str, Any]) -> Example | None:
        """The tokenised pair; None without a response or past the student's context."""
        if not row["response"]:
            return None
        example = encode_example(self.tokenizer, row["messages"], row["response"])
        return example if len(example.ids) <= self.max_length else None
