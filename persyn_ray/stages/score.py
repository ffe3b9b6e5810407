"""Learnability and Quality: prompts and responses in, raw signals out.

Both signals are stored as they are; alpha and scaling are applied later, on the driver. They are
those of the text that the student would see in training: without its thinking, if the recipe says
so. Where nothing is left to see (no response, an empty one, or thinking that was cut) the signal is
null, counted and never guessed. A response that was cut is scored like any other.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from persyn_ray.config import ExactAnswer, ExactMatch, Responses, RewardModel
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.likelihood import response_likelihoods
from persyn_ray.models.load import (
    context_length,
    load_causal_lm,
    load_sequence_classifier,
    load_tokenizer,
)
from persyn_ray.models.reward_model import reward_scores
from persyn_ray.schemas import LEARNABILITY, QUALITY, conform
from persyn_ray.sections import Model
from persyn_ray.texts import student_text
from persyn_ray.verify import Verdict, Verifier, exact_match


def on_device(model: Any) -> Any:
    """The model on the GPU that this process was given, if any (`resources.*.gpus`)."""
    return model.to("cuda") if torch.cuda.is_available() else model


def paired(
    prompts: pa.Table, responses: pa.Table, section: Responses | None = None
) -> list[dict[str, Any]]:
    """One dict per response with its prompt's messages and reference, matched by `prompt_id`.

    Responses are as the student sees them.
    """
    of_prompt = {row["prompt_id"]: row for row in prompts.to_pylist()}
    rows = responses.select(["prompt_id", "teacher", "response"]).to_pylist()
    if section is not None:
        rows = [row | {"response": student_text(row["response"], section)} for row in rows]
    return [{**of_prompt[row["prompt_id"]], **row} for row in rows]


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


class Quality:
    """A response's quality: a verified answer (1 or 0) or a reward model's score."""

    writes = QUALITY

    def __init__(
        self, how: ExactAnswer | ExactMatch | RewardModel, responses: Responses | None = None
    ) -> None:
        self.how, self.section = how, responses
        if isinstance(how, RewardModel):
            model, code = how.model, how.model.trust_remote_code
            self.model = on_device(
                load_sequence_classifier(model.name, model.dtype, model.revision, code)
            )
            self.tokenizer = load_tokenizer(model.name, model.revision, model.chat_template, code)
        if isinstance(how, ExactAnswer):
            self.verifier = Verifier(timeout_seconds=how.timeout_seconds)

    def __call__(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        rows = paired(prompts, responses, self.section)
        answered = [row for row in rows if row["response"]]
        verdicts = iter(self._verdicts(answered))
        table = pa.Table.from_pylist(
            [
                {
                    "prompt_id": row["prompt_id"],
                    "teacher": row["teacher"],
                    "quality": verdict.quality if verdict else None,
                    "outcome": verdict.outcome if verdict else "no_response",
                }
                for row in rows
                for verdict in [next(verdicts) if row["response"] else None]
            ],
            schema=QUALITY,
        )
        return conform(table, QUALITY, "quality")

    def _verdicts(self, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
        if isinstance(self.how, RewardModel):
            scores = reward_scores(
                self.model,
                self.tokenizer,
                [(row["messages"], row["response"]) for row in rows],
                self.how.tokens_per_batch,
                self.how.max_length,
            )
            return [Verdict("scored", score) for score in scores]
        pairs = [(row["response"], row["reference"]) for row in rows]
        if isinstance(self.how, ExactMatch):
            return [exact_match(*pair, self.how.marker) for pair in pairs]
        return self.verifier.check(pairs)
