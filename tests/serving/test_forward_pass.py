"""Which prompt gets which scores when requests of two routers share a batch."""

from typing import Any

import numpy as np
import pytest

from persyn_ray.serving.forward_pass import Pass, Passes
from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.router_model import Scores


class Model:
    """Scores a prompt by its first token and its own name; fails on token 13."""

    def __init__(self, name: int) -> None:
        self.name, self.calls = name, 0

    def score(self, rows: Any, tokens: int, tasks: list[str | None]) -> Scores:
        assert len(tasks) == len(rows)
        self.calls += 1
        if any(row[0] == 13 for row in rows):
            raise RuntimeError("thirteen")
        found = [(row[0], self.name) for row in rows]
        return Scores(np.array(found, float), [(float(row[0]), False) for row in rows])


def scored(passes: list[Any]) -> list[Any]:
    found: list[Any] = Passes(99, Counts())(passes)
    return [
        one and (one.logits_PM.tolist(), [distance for distance, _ in one.distances])
        for one in found
    ]


def test_every_request_gets_its_own_from_its_own_router():
    old: Any = Model(1)
    new: Any = Model(2)
    passes = [Pass(old, [[1], [2]]), Pass(new, [[3]]), Pass(old, [[4]]), Pass(new, [[5], [6]])]
    assert scored(passes) == [
        ([[1, 1], [2, 1]], [1, 2]),
        ([[3, 2]], [3]),
        ([[4, 1]], [4]),
        ([[5, 2], [6, 2]], [5, 6]),
    ]
    assert (old.calls, new.calls) == (1, 1)


def test_a_request_that_breaks_the_pass_is_the_only_one_without_scores():
    model: Any = Model(1)
    passes = [Pass(model, [[1]]), Pass(model, [[13]]), Pass(model, [[2]])]
    assert scored(passes) == [([[1, 1]], [1]), None, ([[2, 1]], [2])]


@pytest.mark.parametrize("rows", [[[13]], [[1], [13]]])
def test_one_that_fails_alone_is_not_tried_twice(rows):
    model: Any = Model(1)
    assert scored([Pass(model, rows)]) == [None]
    assert model.calls == 1
