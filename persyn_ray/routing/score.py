"""Scores the prompts of a part with a saved router: prompts in; logits and novelty out.

The router is loaded and asked as the endpoint does (`serving/router_model.py`), with no limit on a
prompt's length: it reads the last `router.max_length` tokens. A prompt that it cannot read is told
from its neighbours, which are scored all the same.
"""

from collections.abc import Sequence

import pyarrow as pa

from persyn_ray.data.files.rows import Row
from persyn_ray.models.chat import Message
from persyn_ray.routing.parts import TableJob, score_parts
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.router_model import ENDLESS, RouterModel
from persyn_ray.shards.units import Progress, Unit
from persyn_ray.storage.schemas import conform

TOKENS_PER_BATCH = 16384
REFUSED = "router_refused"


class ScoreParts:
    """One router; a part that has its scores is left as it is."""

    def __init__(self, job: TableJob) -> None:
        """Raises ConfigError where the folder holds no router."""
        self.job = job
        self.model = RouterModel(job.router)
        self.schema = score_parts(len(self.model.teachers))

    def __call__(self, unit: Unit) -> Progress:
        part, scores = unit["shard"], self.job.scores
        if not scores.holds_table(part):
            table = self._scored(self.job.table_prompts.read_table(part))
            scores.write_table(part, conform(table, self.schema, f"scores of {part}"))
        reasons = scores.read_table(part, ["reason"])["reason"]
        return Progress(rows=len(reasons), errors=len(reasons) - reasons.null_count)

    def _scored(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.to_pylist()
        asked = [row for row in rows if row["messages"] is not None]
        read = readable(self.model, [row["messages"] for row in asked])
        found = {row["number"]: one for row, one in zip(asked, read, strict=True)}
        tasks = {row["number"]: row["task"] for row in asked}
        scored = self._scores({n: one for n, one in found.items() if isinstance(one, list)}, tasks)
        refused = {
            number: {"reason": REFUSED, "detail": why}
            for number, why in found.items()
            if isinstance(why, str)
        }
        made = [
            row | scored.get(row["number"], {}) | refused.get(row["number"], {}) for row in rows
        ]
        keep = self.schema.names
        plain = [{name: row.get(name) for name in keep} for row in made]
        return pa.Table.from_pylist(plain, schema=self.schema)

    def _scores(self, rows: dict[int, list[int]], tasks: dict[int, str | None]) -> dict[int, Row]:
        """Logits and novelty of token ids, by the number of their row."""
        if not rows:
            return {}
        labels = [tasks[number] for number in rows]
        scores = self.model.score(list(rows.values()), TOKENS_PER_BATCH, labels)
        distances = scores.distances or [(None, None)] * len(rows)
        return {
            number: {"logits": logits.tolist(), "distance": distance, "is_novel": is_novel}
            for number, logits, (distance, is_novel) in zip(
                rows, scores.logits_PM, distances, strict=True
            )
        }


def readable(
    model: RouterModel, conversations: Sequence[Sequence[Message]]
) -> list[list[int] | str]:
    """Token ids of each conversation, or why the router cannot read it.

    What is refused together is asked for in halves.
    """
    if not conversations:
        return []
    try:
        return [list(row) for row in model.read(conversations, ENDLESS)]
    except Refusal as refusal:
        if len(conversations) == 1:
            return [str(refusal)]
    half = len(conversations) // 2
    return readable(model, conversations[:half]) + readable(model, conversations[half:])
