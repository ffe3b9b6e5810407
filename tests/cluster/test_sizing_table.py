"""The guide's figures on sizing against the model that they are said to come from."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from persyn_ray.pipeline.plan.placement import Placed, deployment_of, place_teachers
from persyn_ray.recipe.recipe import load_recipe
from persyn_ray.scheduling.engine_model import (
    EngineModel,
    StepTime,
    lognormal_lengths,
    simulate_many_rows,
)
from persyn_ray.scheduling.gpu_memory import (
    Layout,
    responses_at_once,
    step_time,
    tokens_per_second,
)

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "cluster" / "README.md").read_text()
LENGTHS = lognormal_lengths(4096, 0.2 * 2048, 2048)


def rows_of_the_table() -> Iterator[list[str]]:
    table = GUIDE.split("| rows per slot |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def placed() -> dict[str, Placed]:
    return place_teachers(deployment_of(load_recipe(ROOT / "jobs" / "instruct.yaml")))


def test_fill_and_time_by_rows_per_slot(placed: dict[str, Placed]) -> None:
    held = 500 + float((LENGTHS**2).mean() / LENGTHS.mean()) / 2
    steps = [
        step_time(one.model, one.layout, held, one.gpu, 500)
        for one in (placed["llama-3.1-8b"], placed["llama-3.1-70b"])
    ]
    rows = list(rows_of_the_table())
    assert len(rows) == 5
    for per_slot, *figures in rows:
        number = round(256 * float(per_slot))
        for place, step in enumerate([*steps, StepTime(1.0)]):
            engine = EngineModel(256, step)
            found = simulate_many_rows(engine, LENGTHS, number)
            over = found.writing_seconds / engine.full_seconds(number, float(np.mean(LENGTHS)))
            assert figures[2 * place] == f"{100 * found.filled:.0f} %"
            assert figures[2 * place + 1] == f"{over:.2f}"


def test_a_70b_model_on_two_four_and_eight_gpus(placed: dict[str, Placed]) -> None:
    one = placed["llama-3.1-70b"]
    said = re.search(
        r"70B on two GPUs has room for (\d+)\s+responses of 1,524 tokens and writes (\d+) tokens a "
        r"second and GPU, on four for (\d+) and writes ([\d,]+)",
        GUIDE,
    )
    assert said is not None
    figures: list[str] = []
    for tensor in (2, 4):
        layout = Layout(tensor)
        at_once = responses_at_once(one.model, layout, 1524, one.gpu)
        speed = tokens_per_second(one.model, layout, min(256, at_once), 1524, one.gpu)
        figures += [str(at_once), f"{speed / tensor:,.0f}"]
    assert list(said.groups()) == figures
    speeds = [
        tokens_per_second(one.model, Layout(tensor), 256, 1524, one.gpu) / tensor
        for tensor in (4, 8)
    ]
    assert speeds[1] == pytest.approx(speeds[0], rel=0.01)
