"""Generate: prompts in, one teacher's responses out.

A request that the engine cannot serve is a row with `finish_reason` error or missing, never an
exception: its reward is null and takes part in no pair. How a response ended is marked here (cut
by its token limit, or going round in circles) and its text is kept; what becomes of it is decided
where it is used.
"""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from persyn_ray.data.response_text import is_loop, valid_unicode
from persyn_ray.engines.base import Completion, Engine, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.schemas import PROMPTS, RESPONSES, conform


def requests_of(prompts: pa.Table) -> list[Request]:
    """The conversations of a PROMPTS table as engine requests, in its order."""
    rows = prompts.select(["prompt_id", "messages"]).to_pylist()
    return [Request(row["prompt_id"], row["messages"]) for row in rows]


class Generate:
    """One teacher answers prompts; the engine loads its weights with the first batch.

    Args:
        responses: the recipe's rules for responses; without them nothing is marked as a loop.
        placement: placement group for the workers of a large teacher's engine.
        spending: where an endpoint's tokens are counted; by default in memory.
    """

    reads, writes = PROMPTS, RESPONSES

    def __init__(
        self,
        teacher: TeacherConfig,
        pool: TeacherPool,
        responses: ResponsesConfig | None = None,
        placement: Any = None,
        spending: Account | None = None,
    ) -> None:
        self.teacher = teacher
        self.loop_repeats = None if responses is None else responses.loop_repeats
        self.engine: Engine = build_engine(teacher, pool, responses, placement, spending)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        requests = requests_of(prompts)
        refusals = [self.engine.refuses(request) for request in requests]
        served = [r for r, why in zip(requests, refusals, strict=True) if why is None]
        answers = iter(self._answers(served) if served else [])
        completions = [Completion.failed(why) if why else next(answers) for why in refusals]
        return self._table(requests, completions)

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def _answers(self, requests: list[Request]) -> list[Completion]:
        """One answer each; those that the token limit cut are asked for once more, with more."""
        answers = [self._marked(answer) for answer in self.engine.generate(requests)]
        limit = self.teacher.sampling.retry_tokens
        # A loop is not asked for again: it would only be longer.
        cut = [place for place, answer in enumerate(answers) if answer.finish_reason == "length"]
        if limit is None or not cut:
            return answers
        again = self.engine.generate([replace(requests[p], max_tokens=limit) for p in cut])
        for place, answer in zip(cut, again, strict=True):
            answers[place] = _either(answers[place], self._marked(answer))
        return answers

    def _marked(self, answer: Completion) -> Completion:
        if (
            self.loop_repeats is None
            or not answer.text
            or not is_loop(answer.text, self.loop_repeats)
        ):
            return answer
        return replace(answer, finish_reason="loop")

    def _table(self, requests: list[Request], completions: list[Completion]) -> pa.Table:
        rows = [
            {
                "prompt_id": request.prompt_id,
                "teacher": self.teacher.name,
                "response": _storable(completion.text),
                "finish_reason": completion.finish_reason,
                "num_prompt_tokens": completion.num_prompt_tokens,
                "num_tokens": completion.num_tokens,
                "error": _storable(completion.error),
            }
            for request, completion in zip(requests, completions, strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=RESPONSES)
        return conform(table, RESPONSES, f"responses of {self.teacher.name}")


def _storable(text: str | None) -> str | None:
    return None if text is None else valid_unicode(text)


def _either(first: Completion, second: Completion) -> Completion:
    """The second answer, or the first where it failed; the tokens of both were spent.

    Where the second could not be had, neither counts: both are asked for again another time.
    """
    if second.finish_reason == "unavailable":
        return second
    return replace(
        first if second.text is None else second,
        num_prompt_tokens=first.num_prompt_tokens + second.num_prompt_tokens,
        num_tokens=first.num_tokens + second.num_tokens,
        error=second.error,
    )
