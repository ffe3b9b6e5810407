"""Generate: prompts in, one teacher's responses out.

A request that the engine cannot serve is a row with `finish_reason` error or missing, never an
exception: its reward is null and takes part in no pair.
"""

import pyarrow as pa

from persyn_ray.config import Teacher
from persyn_ray.engines.base import Completion, Engine, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.pool import TeacherPool
from persyn_ray.schemas import PROMPTS, RESPONSES, conform


def requests_of(prompts: pa.Table) -> list[Request]:
    """The conversations of a PROMPTS table as engine requests, in its order."""
    rows = prompts.select(["prompt_id", "messages"]).to_pylist()
    return [Request(row["prompt_id"], row["messages"]) for row in rows]


class Generate:
    """One teacher answers prompts; the engine loads its weights with the first batch."""

    reads, writes = PROMPTS, RESPONSES

    def __init__(self, teacher: Teacher, pool: TeacherPool) -> None:
        self.teacher = teacher
        self.engine: Engine = build_engine(teacher, pool)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        requests = requests_of(prompts)
        refusals = [self.engine.refuses(request) for request in requests]
        served = [r for r, why in zip(requests, refusals, strict=True) if why is None]
        answers = iter(self.engine.generate(served) if served else [])
        completions = [Completion.failed(why) if why else next(answers) for why in refusals]
        return self._table(requests, completions)

    def _table(self, requests: list[Request], completions: list[Completion]) -> pa.Table:
        rows = [
            {
                "prompt_id": request.prompt_id,
                "teacher": self.teacher.name,
                "response": completion.text,
                "finish_reason": completion.finish_reason,
                "num_prompt_tokens": completion.num_prompt_tokens,
                "num_tokens": completion.num_tokens,
                "error": completion.error,
            }
            for request, completion in zip(requests, completions, strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=RESPONSES)
        return conform(table, RESPONSES, f"responses of {self.teacher.name}")
