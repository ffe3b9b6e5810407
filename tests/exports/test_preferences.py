"""Pairs: best against worst by reward, and what makes none."""

import random
from typing import Any

from persyn_ray.exports.preferences import NO_BETTER, TOO_FEW, Pairs

from .rows import TableRows, routed, turn


def parallel(number: int, rewards: dict[str, float | None], **changes: Any) -> list[dict[str, Any]]:
    return [
        routed(
            number,
            "parallel",
            teacher,
            messages=[turn("user", f"q{number}"), turn("assistant", f"{teacher} says {number}")],
            reward=reward,
        )
        | changes
        for teacher, reward in rewards.items()
    ]


def test_the_best_is_chosen_and_the_worst_rejected() -> None:
    pairs = Pairs(TableRows(tuple(parallel(1, {"a": 0.25, "b": -1.0, "c": 0.75, "d": None}))))
    (pair,) = pairs
    assert (pair.chosen["content"], pair.rejected["content"]) == ("c says 1", "b says 1")
    assert (pair.chosen_teacher, pair.rejected_teacher) == ("c", "b")
    assert pair.margin == 1.75
    assert pair.prompt == [turn("user", "q1")]
    assert pairs.left_out == {TOO_FEW: 0, NO_BETTER: 0}


def test_prompts_that_make_no_pair_are_counted() -> None:
    same = [turn("user", "q"), turn("assistant", "the very same")]
    rows = [
        *parallel(1, {"a": 0.5, "b": None}),
        *parallel(2, {"a": None}),
        *parallel(3, {"a": 0.5, "b": 0.5}),
        *parallel(4, {"a": 0.5, "b": 0.25}, messages=same),
        *parallel(5, {"a": 0.5, "b": 0.25}),
    ]
    pairs = Pairs(TableRows(tuple(rows)))
    assert [pair.id for pair in pairs] == ["p5"]
    assert pairs.left_out == {TOO_FEW: 2, NO_BETTER: 2}
    assert [pair.id for pair in pairs] == ["p5"]  # counted anew, not twice
    assert pairs.left_out == {TOO_FEW: 2, NO_BETTER: 2}


def test_among_equals_the_order_of_teachers_does_not_matter() -> None:
    chosen = set()
    for seed in range(20):
        rows = parallel(1, {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.0})
        random.Random(seed).shuffle(rows)
        (pair,) = Pairs(TableRows(tuple(rows)))
        chosen.add(pair.chosen_teacher)
    assert len(chosen) == 1
