"""Quality: prompts and responses in, one raw value per response out.

Values are stored as they are; scaling and the weights of several qualities are applied later, on
the driver. A response that was cut is scored like any other.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from persyn_ray.config import Responses
from persyn_ray.models.load import load_sequence_classifier, load_tokenizer, on_device
from persyn_ray.models.reward_model import reward_scores
from persyn_ray.schemas import QUALITY, conform
from persyn_ray.scoring import ExactAnswer, ExactMatch, RewardModel
from persyn_ray.stages.pairing import paired
from persyn_ray.verify import Verdict, Verifier, exact_match


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
