"""One forward pass of the router over the prompts of many requests."""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.router_model import RouterModel, Rows, Scores

logger = logging.getLogger(__name__)


class Pass(NamedTuple):
    """Prompts of one request that wait for the router it began with."""

    model: RouterModel
    rows: Rows
    task: str | None = None
    """Label of all of them."""

    @property
    def tasks(self) -> list[str | None]:
        """The label of each."""
        return [self.task] * len(self.rows)


def size_of(one: Pass) -> int:
    """Tokens of a request's prompts: what a batch is limited by."""
    return sum(map(len, one.rows))


class Passes:
    """Scores batches of requests. Of one thread; only `seconds` may be asked from another."""

    def __init__(self, tokens_per_batch: int, counts: Counts) -> None:
        self._tokens_per_batch, self._counts = tokens_per_batch, counts
        self._began: float | None = None

    def __call__(self, passes: Sequence[Pass]) -> list[Scores | None]:
        """Scores of each request, by one pass for all that began with the same router; None for a
        request on which the router fails."""
        scores: dict[int, Scores | None] = {}
        self._began = time.monotonic()
        try:
            for model in dict.fromkeys(one.model for one in passes):
                places = [place for place, one in enumerate(passes) if one.model is model]
                scores |= self._together(model, places, passes)
        finally:
            self._began = None
        return [scores[place] for place in range(len(passes))]

    @property
    def seconds(self) -> float:
        """How long the batch at work has taken so far; 0 if there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def _together(
        self, model: RouterModel, places: list[int], passes: Sequence[Pass]
    ) -> dict[int, Scores | None]:
        found = self._score(model, [passes[place] for place in places])
        if found is None and len(places) > 1:  # each alone: one of them did it
            return {place: self._score(model, [passes[place]]) for place in places}
        scores, start = {}, 0
        for place in places:
            stop = start + len(passes[place].rows)
            scores[place] = None if found is None else found.part(start, stop)
            start = stop
        return scores

    def _score(self, model: RouterModel, passes: Sequence[Pass]) -> Scores | None:
        began = time.perf_counter()
        rows = [row for one in passes for row in one.rows]
        tasks = [task for one in passes for task in one.tasks]
        try:
            return model.score(rows, self._tokens_per_batch, tasks)
        except Exception:  # whatever the model does, other requests shall have their answers
            logger.exception("The router failed on %d prompts.", len(rows))
            return None
        finally:
            seconds = time.perf_counter() - began
            self._counts.batch(len(rows), sum(map(len, rows)), seconds)
