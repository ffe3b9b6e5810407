"""Typed results of steps: what a record holds, and what it refuses."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from persyn_ray.errors import DataError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.results import (
    CollectResult,
    PromptsResult,
    RewardsResult,
    RouteResult,
    TeacherProgress,
    read_result,
)


def test_a_result_comes_back_as_its_type(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    counts = {"rows": 3, "teachers": {"a": {"rows": 3, "tokens": 40, "seconds": 1.5}}}
    write_record(folder, Record("collect", "f", {}, {}, counts))
    assert read_result(folder, PromptsResult) is None
    result = read_result(folder, CollectResult)
    assert result is not None
    assert (result.rows, result.errors, result.odd_endings) == (3, 0, {})
    assert result.teachers == {"a": TeacherProgress(rows=3, tokens=40, seconds=1.5)}


@pytest.mark.parametrize("counts", [{"rowz": 1}, {"rows": "many"}, {"shards": ["a"]}])
def test_a_record_of_something_else_is_refused_by_its_field(tmp_path: Path, counts: dict) -> None:
    folder = Folder(str(tmp_path))
    sound = {"rows": 1, "splits": {}, "sharding": "x", "shards": {}}
    write_record(folder, Record("prompts", "f", {}, {}, sound | counts))
    with pytest.raises(DataError, match=rf"step prompts.*{next(iter(counts))}.*--from prompts"):
        read_result(folder, PromptsResult)


def test_what_a_step_returns_is_checked_before_it_is_written() -> None:
    with pytest.raises(ValidationError, match="assigned"):
        RouteResult.model_validate({"rows": 1, "assigned": {"persyn": {"a": "some"}}})


def test_every_step_has_a_result() -> None:
    from persyn_ray.pipeline.steps import STEPS

    names = [
        *("prompts", "collect", "score", "rewards", "router"),
        *("route", "synthesize", "finetune", "evaluate"),
    ]
    assert [step.name for step in STEPS] == [step.result.step for step in STEPS] == names


def test_the_mean_loss_of_an_unknown_teacher_is_none() -> None:
    result = RewardsResult(rows=1, teachers={"a": {"mean_loss": 1.5}, "b": {"mean_loss": None}})
    assert [result.mean_loss(name) for name in "abc"] == [1.5, None, None]
