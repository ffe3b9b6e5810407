"""The benchmark's engine that only keeps time: as full, and as fast, as the model of an engine."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from persyn_ray.scheduling.engine_model import EngineModel, StepTime, simulate_rows

FILE = Path(__file__).parents[2] / "benchmarks" / "streaming_parts" / "simulated_engine.py"


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_engine", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulated_engine"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def run(engine: Any, prompt_ids: list[str], window: int) -> list[int]:
    """Ask for all prompts, at most `window` of them at once."""

    async def ask() -> list[int]:
        gate = asyncio.Semaphore(window)

        async def one(prompt_id: str) -> int:
            async with gate:
                return await engine.generate(prompt_id)

        return await asyncio.gather(*map(one, prompt_ids))

    return asyncio.run(ask())


def test_lengths_are_lognormal_and_the_same_everywhere(simulated: ModuleType) -> None:
    lengths = simulated.Lengths()
    drawn = np.array([lengths.of(f"p{number}") for number in range(20_000)])
    assert (drawn.min() >= 8, drawn.max()) == (True, 2048)
    assert np.log(drawn).mean() == pytest.approx(5.7, abs=0.02)
    assert np.log(drawn).std() == pytest.approx(0.75, abs=0.02)
    assert lengths.of("p7") == drawn[7]
    assert simulated.Lengths(seed=1).of("p7") != drawn[7]


def test_fed_at_once_it_is_as_full_as_the_model(simulated: ModuleType) -> None:
    lengths = simulated.Lengths(log_mean=3.0, most=100)
    config = simulated.EngineConfig(slots=16, step_seconds=0.01, lengths=lengths)
    ids = [f"p{number}" for number in range(100)]
    engine = simulated.SimulatedEngine(config)
    tokens = run(engine, ids, len(ids))
    assert tokens == [lengths.of(one) for one in ids]
    model = simulate_rows(EngineModel(16, StepTime(0.01)), np.array(tokens))
    found = engine.summary()
    assert (found["responses"], found["tokens"], found["most_running"]) == (100, sum(tokens), 16)
    assert found["slots_mean"] == pytest.approx(model.running_mean, rel=0.05)
    assert found["seconds"] == pytest.approx(model.seconds, rel=0.05)
    assert (engine.running, engine.waiting) == (0, 0)


def test_fed_by_less_than_its_slots_it_stays_empty(simulated: ModuleType) -> None:
    lengths = simulated.Lengths(log_mean=3.0, most=100)
    config = simulated.EngineConfig(slots=64, step_seconds=0.002, lengths=lengths)
    engine = simulated.SimulatedEngine(config)
    run(engine, [f"p{number}" for number in range(60)], 4)
    found = engine.summary()
    assert found["most_running"] == 4
    assert found["slots_mean"] <= 4
    assert found["filled"] < 0.07
