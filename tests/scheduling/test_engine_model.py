"""The engine model against a token-by-token simulation, by its limits, and by known figures."""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from persyn_ray.scheduling.engine_model import (
    EngineModel,
    Occupancy,
    StepTime,
    lognormal_lengths,
    simulate_many_rows,
    simulate_rows,
    simulate_units,
)

UNIT_STEP = StepTime(1.0)
STEP = StepTime(fixed=2.0, per_response=0.5, computing=0.7, prefill=0.25)


def token_by_token(
    engine: EngineModel, units: Sequence[Sequence[int]], in_flight: int
) -> tuple[float, float]:
    """Seconds and mean running, writing one token of every running response at a time."""
    todo, waiting, running = list(enumerate(map(list, units))), [], []
    seconds = busy = 0.0
    while todo or waiting or running:
        open_units = {unit for unit, _ in waiting + running}
        while todo and len(open_units) < in_flight:
            unit, lengths = todo.pop(0)
            waiting += [[unit, length] for length in lengths]
            open_units |= {unit} if lengths else set()
        read = 0
        while waiting and len(running) < engine.slots * engine.engines:
            running.append(waiting.pop(0))
            read += 1
        if not running:
            break
        each = len(running) / engine.engines
        step = max(
            engine.step.fixed + engine.step.per_response * each, engine.step.computing * each
        )
        span = step + read * engine.step.prefill / engine.engines
        seconds += span
        busy += span * each
        for one in running:
            one[1] -= 1
        running = [one for one in running if one[1]]
    return seconds, busy / seconds


@pytest.mark.parametrize("seed", range(12))
def test_rows_and_units_agree_with_writing_token_by_token(seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = EngineModel(int(rng.integers(1, 7)), STEP, engines=int(rng.integers(1, 3)))
    units = [rng.integers(1, 15, rng.integers(0, 6)) for _ in range(12)]
    in_flight = int(rng.integers(1, 5))
    found = simulate_units(engine, units, in_flight)
    seconds, running = token_by_token(engine, [unit.tolist() for unit in units], in_flight)
    assert (found.seconds, found.running_mean) == pytest.approx((seconds, running))
    rows = np.concatenate(units)
    streamed = simulate_rows(engine, rows)
    seconds, running = token_by_token(engine, [[row] for row in rows.tolist()], len(rows))
    assert streamed.seconds == pytest.approx(seconds)
    # Reading prompts is counted at full slots here, where it is done in the fill of that moment.
    assert streamed.running_mean == pytest.approx(running, rel=0.1)
    exact = EngineModel(engine.slots, StepTime(2.0, 0.5, 0.7), engines=engine.engines)
    _, running = token_by_token(exact, [[row] for row in rows.tolist()], len(rows))
    assert simulate_rows(exact, rows).running_mean == pytest.approx(running)


def shares_of_shards(rng: np.random.Generator) -> list[np.ndarray]:
    """What one of 19 teachers gets of 50,000 prompts in shards of 256."""
    sizes = [rng.binomial(256, 1 / 19) for _ in range(50_000 // 256)]
    return [np.clip(rng.lognormal(5.7, 0.75, n), 8, 2048).astype(int) for n in sizes if n]


def test_units_of_a_teachers_share_starve_an_engine() -> None:
    units = shares_of_shards(np.random.default_rng(0))
    engine = EngineModel(256, UNIT_STEP)
    rows = simulate_rows(engine, np.concatenate(units))
    two, many = (simulate_units(engine, units, in_flight) for in_flight in (2, 32))
    assert two.running_mean == pytest.approx(9.7, abs=0.05)
    assert two.seconds / rows.seconds == pytest.approx(18.8, abs=0.05)
    assert many.seconds / rows.seconds == pytest.approx(1.4, abs=0.05)
    assert rows.running_mean == pytest.approx(182, abs=1)


def test_rows_are_units_of_one_row_all_in_flight() -> None:
    lengths = lognormal_lengths(500, 100, 400)
    engine = EngineModel(16, STEP, load_seconds=30)
    rows = simulate_rows(engine, lengths)
    units = simulate_units(engine, [np.array([one]) for one in lengths], len(lengths))
    assert rows.seconds == pytest.approx(units.seconds)
    assert rows.tail_seconds == pytest.approx(units.tail_seconds, rel=0.02)


@pytest.mark.parametrize(
    ("lengths", "seconds", "running", "tail"),
    [
        ([], 0, 0, 0),
        ([7], 7, 1, 7),
        ([5, 5, 5, 5], 5, 4, 5),  # all slots at once
        ([5] * 8, 10, 4, 5),
        ([9, 1, 1, 1, 1, 1], 9, 14 / 9, 8),  # one long response holds the engine
    ],
)
def test_small_cases_by_hand(
    lengths: list[int], seconds: float, running: float, tail: float
) -> None:
    engine = EngineModel(4, UNIT_STEP)
    found = simulate_rows(engine, np.array(lengths, int))
    assert (found.seconds, found.tail_seconds) == (seconds, tail)
    assert found.running_mean == pytest.approx(running)


def test_loading_comes_on_top_and_does_not_count_as_empty() -> None:
    lengths = np.full(8, 5)
    found = simulate_rows(EngineModel(4, UNIT_STEP, load_seconds=100), lengths)
    assert (found.seconds, found.writing_seconds, found.filled) == (110, 10, 1)


def test_work_is_conserved_and_no_engine_beats_full_slots() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        lengths = rng.integers(1, 300, rng.integers(1, 400))
        engine = EngineModel(int(rng.integers(1, 64)), UNIT_STEP, engines=int(rng.integers(1, 4)))
        found = simulate_rows(engine, lengths)
        assert found.running_mean * found.seconds * engine.engines == pytest.approx(lengths.sum())
        assert found.seconds >= engine.full_seconds(len(lengths), lengths.mean()) - 1e-9
        assert 0 < found.running_mean <= engine.slots


def test_more_rows_fill_better_and_longer_ones_take_longer() -> None:
    lengths = lognormal_lengths(20_000, 400, 2048)
    engine = EngineModel(256, STEP)
    runs: list[Occupancy] = [simulate_rows(engine, lengths[:n]) for n in (50, 200, 1000, 20_000)]
    assert [one.filled for one in runs] == sorted(one.filled for one in runs)
    assert runs[0].filled < 0.15
    assert runs[-1].filled > 0.9
    assert simulate_rows(engine, lengths[:1000] * 2).seconds > runs[2].seconds
    slots = [simulate_rows(EngineModel(s, UNIT_STEP), lengths[:1000]).seconds for s in (8, 64, 512)]
    assert slots == sorted(slots, reverse=True)


def test_long_queues_go_on_at_full_slots() -> None:
    sample, engine = lognormal_lengths(1000, 300, 2048), EngineModel(32, STEP, load_seconds=9)
    rows = np.random.default_rng(0).choice(sample, 20_000)
    exact, quick = simulate_rows(engine, rows), simulate_many_rows(engine, sample, 20_000)
    assert quick.seconds == pytest.approx(exact.seconds, rel=0.02)
    assert quick.filled == pytest.approx(exact.filled, rel=0.02)
    few = simulate_many_rows(engine, sample, 100)
    assert few == simulate_rows(engine, np.random.default_rng(0).choice(sample, 100))


def test_a_million_rows_take_seconds() -> None:
    lengths = lognormal_lengths(1_000_000, 400, 2048)
    began = time.process_time()
    found = simulate_rows(EngineModel(256, STEP), lengths)
    assert time.process_time() - began < 20
    assert found.filled > 0.99


def test_slower_steps_take_longer_by_as_much() -> None:
    lengths = lognormal_lengths(300, 50, 200)
    once, twice = (
        simulate_rows(EngineModel(8, step), lengths) for step in (STEP, STEP.scaled(2.0))
    )
    assert twice.seconds == pytest.approx(2 * once.seconds)
    assert twice.filled == pytest.approx(once.filled)


def test_what_is_no_engine_or_no_response_is_refused() -> None:
    with pytest.raises(ValueError, match="slots=0"):
        EngineModel(0, UNIT_STEP)
    with pytest.raises(ValueError, match="at least 1 token; found 0"):
        simulate_rows(EngineModel(1, UNIT_STEP), np.array([3, 0]))
