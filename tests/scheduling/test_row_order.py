"""The order of an engine's rows: long ones first, shared beginnings together, every row once."""

import numpy as np
import pytest

from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.scheduling.engine_model import EngineModel, StepTime, simulate_rows
from persyn_ray.scheduling.row_order import (
    CLASSES,
    LEAST_LENGTHS,
    MOST_SHARING,
    NONE,
    LengthModel,
    fit_lengths,
    stretches,
)


def alone(number: int) -> Integers:
    """No row shares its beginning."""
    return np.full(number, NONE)


def in_order(expected_N: Floats, beginnings_N: Integers | None = None) -> list[int]:
    """The order of the rows of one file."""
    beginnings_N = alone(len(expected_N)) if beginnings_N is None else beginnings_N
    places = {"a": list(range(len(expected_N)))}
    found = list(stretches(places, {"a": expected_N}, {"a": beginnings_N}))
    return [place for _, some in found for place in some]


def test_every_row_comes_once_and_files_are_read_once_for_each_class() -> None:
    rng = np.random.default_rng(0)
    rows = {name: sorted(rng.choice(900, 150, replace=False).tolist()) for name in "abc"}
    expected = {name: rng.normal(size=150) for name in rows}
    beginnings = {name: rng.integers(-1, 40, 150) for name in rows}
    found = list(stretches(rows, expected, beginnings))
    assert len(found) == 3 * CLASSES
    assert [name for name, _ in found] == ["a", "b", "c"] * CLASSES
    for name, places in rows.items():
        assert sorted(p for other, some in found for p in some if other == name) == places
    assert list(stretches(rows, expected, beginnings)) == found


def test_longer_rows_are_in_earlier_classes_over_all_files_and_else_stay_as_they_lie() -> None:
    lengths = {"a": np.array([1.0, 7, 3, 5]), "b": np.array([2.0, 8, 4, 6])}
    rows = {"a": [10, 11, 12, 13], "b": [0, 1, 2, 3]}
    nothing = {"a": alone(4), "b": alone(4)}
    assert list(stretches(rows, lengths, nothing)) == [
        *(("a", [11]), ("b", [1])),
        *(("a", [13]), ("b", [3])),
        *(("a", [12]), ("b", [2])),
        *(("a", [10]), ("b", [0])),
    ]
    assert in_order(np.zeros(9)) == list(range(9))
    assert in_order(np.array([])) == []
    assert list(stretches({}, {}, {})) == []


def test_a_few_rows_that_begin_alike_stand_together_with_the_longest_of_them() -> None:
    expected_N = np.array([9.0, 1, 8, 2, 7, 3, 6, 4])
    beginnings_N = np.array([NONE, 5, NONE, 5, NONE, 5, 5, NONE])
    found = in_order(expected_N, beginnings_N)
    place = found.index(1)
    assert found[place : place + 4] == [1, 3, 5, 6]  # that of 6 is expected of them all
    assert found[:2] == [0, 2]
    assert found[-1] == 7


def test_a_beginning_of_many_rows_keeps_no_order_from_being_made() -> None:
    expected_N = np.random.default_rng(0).normal(size=4 * MOST_SHARING)
    assert in_order(expected_N, np.zeros(len(expected_N), np.int64)) == in_order(expected_N)


def test_lengths_follow_the_task_and_the_prompt() -> None:
    rng = np.random.default_rng(1)
    tasks_N, chars_N = rng.integers(0, 3, 400), rng.lognormal(5, 1, 400)
    true_N = np.array([4.0, 5.0, 6.0])[tasks_N] + 0.3 * np.log1p(chars_N)
    tokens_N = np.exp(true_N + rng.normal(0, 0.2, 400)).astype(np.int64)
    model = fit_lengths(tokens_N, tasks_N, chars_N, 4)
    assert model is not None
    assert model.slope == pytest.approx(0.3, abs=0.03)
    expected_N = model.expected(tasks_N, chars_N)
    assert np.corrcoef(expected_N, true_N)[0, 1] > 0.99
    # Of a task that nothing was written for, the mean of all is expected.
    unseen = model.expected(np.array([3]), np.array([np.expm1(model.centre)]))
    assert unseen[0] == pytest.approx(np.log1p(tokens_N).mean())


def test_one_response_of_a_task_says_less_than_many() -> None:
    tokens_N = np.array([100] * 60 + [10_000])
    tasks_N = np.array([0] * 60 + [1])
    model = fit_lengths(tokens_N, tasks_N, np.full(61, 50.0), 2)
    assert model is not None
    assert model.slope == 0  # all prompts are equally long
    assert np.log(100) < model.of_task_K[1] < np.log(1000)


def test_of_few_lengths_nothing_is_expected() -> None:
    few = np.arange(1, LEAST_LENGTHS)
    assert fit_lengths(few, few * 0, few.astype(float), 1) is None


def test_engines_end_sooner_by_as_much_as_lengths_can_be_foretold() -> None:
    """A simulation: 1,050 rows for 256 slots, lognormal lengths, of which 0.6 is foretold."""
    rng, engine = np.random.default_rng(0), EngineModel(256, StepTime(0.006, 0.00005))
    seconds: dict[str, list[float]] = {"as they lie": [], "foretold": [], "known": []}
    for _ in range(10):
        drawn_N = rng.normal(size=1050)
        lengths_N = np.clip(np.exp(5.7 + 0.75 * drawn_N), 8, 2048).astype(np.int64)
        foretold_N = 0.6 * drawn_N + 0.8 * rng.normal(size=1050)
        for name, expected_N in (
            ("as they lie", np.zeros(1050)),
            ("foretold", foretold_N),
            ("known", drawn_N),
        ):
            seconds[name].append(simulate_rows(engine, lengths_N[in_order(expected_N)]).seconds)
    mean = {name: float(np.mean(of)) for name, of in seconds.items()}
    assert mean["known"] < mean["foretold"] < 0.96 * mean["as they lie"]


def test_a_model_is_plain_arithmetic() -> None:
    model = LengthModel(np.array([1.0, 2.0]), 0.5, 0.0)
    found = model.expected(np.array([0, 1]), np.expm1(np.array([2.0, 4.0])))
    assert found == pytest.approx([2.0, 4.0])
