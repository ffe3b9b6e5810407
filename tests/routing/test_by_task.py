"""A table routed by a router that goes by tasks: its own column of labels, another, or none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.method.predictors.fit import Predictor
from persyn_ray.method.predictors.interactions import TaskTable
from persyn_ray.method.predictors.task_means import TaskMeans
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.routing.run import Asked, prepare

from .saved_router import TEACHERS
from .test_route_table import carry_out

TASKS = ["math", "code", None, "poetry"] * 5
BEST = ["small", "large", "org/middle", "org/middle"] * 5


@pytest.fixture(scope="module")
def by_task(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The middle one is the best of all, the small one for mathematics, the large one for code."""
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router, save_router

    router = build_router(random_llama, TEACHERS)
    teacher_M = np.array([0.0, 1.0, 0.5])
    rows_KM = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    table = TaskTable(TaskMeans(("math", "code"), teacher_M, rows_KM))
    router.predictor = Predictor("per_task", teacher_M, ((1.0, table),), "2 tasks")
    folder = tmp_path_factory.mktemp("by_task") / "router"
    save_router(router, load_tokenizer(random_llama), folder, {"max_length": 64})
    return str(folder)


def routed(router: str, tmp_path: Path, asked: Asked) -> list[str]:
    path, out = tmp_path / "t.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"prompt": [f"Do {n}." for n in range(20)], "subject": TASKS}), path)
    carry_out(prepare(router, [str(path)], str(out), asked), rows=7)
    return pq.read_table(out)["teacher"].to_pylist()


def test_a_column_of_labels_decides(by_task: str, tmp_path: Path) -> None:
    assert routed(by_task, tmp_path, Asked(task="subject")) == BEST


def test_without_labels_all_get_the_best_of_all(by_task: str, tmp_path: Path) -> None:
    assert set(routed(by_task, tmp_path, Asked())) == {"org/middle"}


def test_limits_hold_and_move_those_that_lose_least(by_task: str, tmp_path: Path) -> None:
    limits = AssignmentConfig.model_validate({"capacity": {"org/middle": 4}})
    found = routed(by_task, tmp_path, Asked(task="subject", limits=limits))
    assert found.count("org/middle") == 4
    assert [name for name in found if name != "org/middle"].count("large") >= 5
    assert [one for one, task in zip(found, TASKS, strict=True) if task == "math"] == ["small"] * 5


def test_a_column_that_is_not_there_is_named(by_task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"topic.*--task|--task.*topic"):
        routed(by_task, tmp_path, Asked(task="topic"))
