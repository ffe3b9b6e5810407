"""Logs of trainings: JSON lines always, files of TensorBoard, MLflow and wandb in the run."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.runtime.train.logs import TrainingLogs
from persyn_ray.runtime.train.workers import PROGRESS_FILE
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

from ..exports.tools import run as run_in
from .tracked_fit import fit

WORKER = Path(__file__).with_name("tracked_fit.py")


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's event files of a folder hold, by tag."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.rglob("events.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event: Any = Event.FromString(data[place + 12 : place + 12 + size])
            place += 16 + size
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_every_training_leaves_its_log_as_json_lines_and_how_far_it_is(
    random_llama: str, tmp_path: Path
) -> None:
    curves = fit(str(tmp_path / "run"), random_llama, ())
    run = RunLayout(Folder.absolute(str(tmp_path / "run")))
    assert run.logs("router").names(".jsonl") == ["first.jsonl", "second-one.jsonl"]
    logged = [json.loads(line) for line in run.logs("router").read_text("first.jsonl").splitlines()]
    losses = {entry["step"]: entry["eval_loss"] for entry in logged if "eval_loss" in entry}
    assert losses == {int(step): loss for step, loss in curves["first"].items()}
    progress = run.records.read_json(PROGRESS_FILE)
    assert progress["what"] == "second one"
    assert progress["step"] == progress["steps"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_a_folder_for_each_training_in_the_run(
    random_llama: str, tmp_path: Path
) -> None:
    curves = fit(str(tmp_path / "run"), random_llama, ("tensorboard",))
    root = tmp_path / "run" / "logs" / "router" / "tensorboard"
    assert sorted(path.name for path in root.iterdir()) == ["first", "second-one"]
    for name in ("first", "second-one"):
        found = dict(scalars(root / name)["eval/loss"])
        assert found == pytest.approx({int(step): loss for step, loss in curves[name].items()})


def test_a_place_that_the_user_has_set_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "/elsewhere")
    run = RunLayout(Folder.absolute(str(tmp_path / "run")))
    TrainingLogs(run, "router", ("tensorboard",)).begin("one")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "/elsewhere"


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persyn_ray.runtime.train.logs.find_spec", lambda name: None)
    run = RunLayout(Folder.absolute(str(tmp_path)))
    with pytest.raises(ConfigError, match="report_to names wandb, whose package"):
        TrainingLogs(run, "finetune", ("wandb",))


def test_where_logs_go_is_no_part_of_what_is_trained(make_recipe: Callable[..., Recipe]) -> None:
    from persyn_ray.pipeline.runner import planned_steps
    from persyn_ray.storage.layout import run_of

    plain = make_recipe()
    tracked = make_recipe({"router.report_to": ["mlflow"], "finetune.report_to": ["wandb"]})
    ours, theirs = (
        [planned.identity for planned in planned_steps(recipe, run_of(recipe))]
        for recipe in (plain, tracked)
    )
    assert ours == theirs


@pytest.mark.exports
def test_mlflow_on_files_gets_a_run_for_each_training(random_llama: str, tmp_path: Path) -> None:
    given = (str(tmp_path / "run"), random_llama, "mlflow")
    out = run_in("trackers", WORKER, *given, cwd=tmp_path)
    told = json.loads(out.strip().splitlines()[-1])
    losses = [list(curve.values()) for curve in told["curves"].values()]
    assert len(told["mlflow"]) == 2
    assert sorted(told["mlflow"]) == sorted(losses)
    assert (tmp_path / "run" / "logs" / "router" / "mlflow").is_dir()


@pytest.mark.exports
def test_wandb_offline_gets_a_run_for_each_training_in_the_run_folder(
    random_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = (str(tmp_path / "run"), random_llama, "wandb")
    out = run_in("trackers", WORKER, *given, cwd=tmp_path)
    told = json.loads(out.strip().splitlines()[-1])
    assert told["wandb"].keys() == {"first", "second-one"}
    for name, curve in told["curves"].items():
        assert told["wandb"][name] == pytest.approx(list(curve.values()))
