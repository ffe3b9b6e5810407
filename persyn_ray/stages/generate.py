"""Generate: prompts in, one teacher's responses out.

A request that the engine cannot serve is a row with `finish_reason` error or missing, never an
exception: its reward is null and takes part in no pair. How a response ended is marked here (cut
by its token limit, or going round in circles) and its text is kept; what becomes of it is decided
where it is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from persyn_ray.data.response_text import is_loop, valid_unicode
from persyn_ray.engines.base import Completion, Done, Engine, Request, StreamingEngine
from persyn_ray.engines.build import build_engine
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.schemas import PROMPTS, RESPONSES, conform

Row = Mapping[str, Any]
"""A row of RESPONSES."""


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

    def __call__(self, prompts: pa.Table, deliver: Callable[[Row], None] | None = None) -> pa.Table:
        """RESPONSES to all prompts, in their order.

        Args:
            deliver: takes each row of RESPONSES as soon as it is there, in any order; it is called
                from the engine's thread and must return at once.
        """
        requests = requests_of(prompts)
        rows: dict[int, Row] = {}

        def take(place: int, completion: Completion) -> None:
            rows[place] = self._row(requests[place], completion)
            if deliver is not None:
                deliver(rows[place])

        refusals = [self.engine.refuses(request) for request in requests]
        for place, why in enumerate(refusals):
            if why is not None:
                take(place, Completion.failed(why))
        served = [place for place, why in enumerate(refusals) if why is None]
        if served:
            self._answer(
                [requests[place] for place in served], lambda at, done: take(served[at], done)
            )
        table = pa.Table.from_pylist([rows[p] for p in range(len(rows))], schema=RESPONSES)
        return conform(table, RESPONSES, f"responses of {self.teacher.name}")

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def _answer(self, requests: list[Request], done: Done) -> None:
        """One answer each; those that the token limit cut are asked for once more, with more."""
        limit, cut = self.teacher.sampling.retry_tokens, dict[int, Completion]()

        def take(place: int, completion: Completion) -> None:
            answer = self._marked(completion)
            # A loop is not asked for again: it would only be longer.
            if limit is not None and answer.finish_reason == "length":
                cut[place] = answer
            else:
                done(place, answer)

        self._ask(requests, take)
        if cut:
            places = sorted(cut)

            def take_second(at: int, completion: Completion) -> None:
                done(places[at], _either(cut[places[at]], self._marked(completion)))

            again = [replace(requests[place], max_tokens=limit) for place in places]
            self._ask(again, take_second)

    def _ask(self, requests: list[Request], done: Done) -> None:
        if isinstance(self.engine, StreamingEngine):
            self.engine.stream(requests, done)
            return
        for place, completion in enumerate(self.engine.generate(requests)):
            done(place, completion)

    def _marked(self, answer: Completion) -> Completion:
        if (
            self.loop_repeats is None
            or not answer.text
            or not is_loop(answer.text, self.loop_repeats)
        ):
            return answer
        return replace(answer, finish_reason="loop")

    def _row(self, request: Request, completion: Completion) -> Row:
        return {
            "prompt_id": request.prompt_id,
            "teacher": self.teacher.name,
            "response": _storable(completion.text),
            "finish_reason": completion.finish_reason,
            "num_prompt_tokens": completion.num_prompt_tokens,
            "num_tokens": completion.num_tokens,
            "error": _storable(completion.error),
        }


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
