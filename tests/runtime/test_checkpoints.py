"""Checkpoints on two Ray Train workers: handed over, gone from the disk, kept for their owner."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persyn_ray.errors import StepError
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.runtime.session import Cluster
from persyn_ray.runtime.train import checkpoints
from persyn_ray.runtime.train.checkpoints import (
    CheckpointMark,
    checkpoint_callback,
    last_checkpoint,
    reporting,
)
from persyn_ray.runtime.train.workers import Training, train_on_workers
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of

MARK = CheckpointMark("persyn", num_workers=2, zero_stage=2)


LARGE = 100 << 20  # bytes, whose upload is not done at once


def save_three(scratch: str, training: Training) -> None:
    """What the Trainer does at three steps, by its callback, on each worker."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    output = Path(scratch) / str(rank)
    with reporting(MARK) as reporter:
        callback: Any = checkpoint_callback(reporter)
        for step in (1, 2, 3):
            state = SimpleNamespace(output_dir=str(output)), SimpleNamespace(global_step=step)
            callback.on_step_end(*state, SimpleNamespace(should_save=True))
            (output / f"before-{step}").write_text(folders_in(output))
            folder = output / f"checkpoint-{step}"
            folder.mkdir()
            (folder / f"part-{rank}").write_text(str(step))
            with (folder / f"weights-{rank}").open("wb") as weights:
                weights.truncate(LARGE)
            callback.on_save(*state, control=None)
            (output / f"after-{step}").write_text(folders_in(output))
    (output / "at-the-end").write_text(folders_in(output))


def folders_in(output: Path) -> str:
    output.mkdir(exist_ok=True)
    return " ".join(path.name for path in output.glob("checkpoint-*"))


def take_up(notes: str, marks: list[CheckpointMark], training: Training) -> None:
    """Note what each of the students finds, on each worker; refuse what cannot go on."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    for mark in marks:
        with last_checkpoint(mark) as folder:
            found = "none"
            if folder is not None:
                parts = {path.name: path.read_text() for path in sorted(folder.glob("part-*"))}
                found = f"{folder}\n{parts}"
            Path(notes, f"{mark.method}-{rank}").write_text(found)
    refuse = CheckpointMark(marks[0].method, len(marks), zero_stage=3)
    # To set the stage itself would begin another training.
    told = r"stage 2, which 2 with stage 3 cannot load.* finetune.deepspeed as it was"
    expected = pytest.raises(StepError, match=told)
    with expected, last_checkpoint(refuse):
        pass
    refuse_a_full_disk(rank)


def refuse_a_full_disk(rank: int) -> None:
    """The second worker's disk is nearly full: each of them refuses, so that none waits."""
    if rank == 1:
        shutil.disk_usage = lambda path: SimpleNamespace(free=1 << 30)  # pyright: ignore
    with pytest.raises(StepError, match=r"No room for checkpoints of 3.0 GiB: .*1.0 GiB left"):
        checkpoints._require_room(3 << 30, Path("/tmp"), Folder("/tmp/nowhere"))


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text()


@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_a_checkpoint_leaves_the_disk_and_serves_its_own_student_alone_where_there_is_room(
    tmp_path: Path, make_recipe: Callable[..., Any], cluster: Cluster
) -> None:
    run: RunLayout = run_of(make_recipe())
    two = TrainResourcesConfig.model_validate({"workers": 2, "cpus": 0.5, "max_failures": 0})
    on_two, notes = Training(run, two), str(tmp_path)
    train_on_workers(partial(save_three, notes), on_two, "students")
    for rank in ("0", "1"):
        told = partial(read, tmp_path / rank)
        # It is uploaded while training goes on, and gone before the next is written.
        assert [told(f"after-{step}") for step in (1, 2, 3)] == [
            f"checkpoint-{step}" for step in (1, 2, 3)
        ]
        assert [told(f"before-{step}") for step in (1, 2, 3)] == ["", "", ""]
        assert told("at-the-end") == ""
    # However many were saved, one is there.
    assert len(list(run.checkpoints.local_path.rglob("checkpoint_*/part-0"))) == 1

    other = CheckpointMark("random", num_workers=2, zero_stage=2)
    train_on_workers(partial(take_up, notes, [MARK, other]), on_two, "students")
    for rank in (0, 1):
        place, parts = (tmp_path / f"persyn-{rank}").read_text().split("\n")
        assert parts == "{'part-0': '3', 'part-1': '3'}"
        assert Path(place).is_relative_to(run.checkpoints.local_path)  # read where it lies
        assert (tmp_path / f"random-{rank}").read_text() == "none"

    one = Training(run, two.model_copy(update={"workers": 1}))
    alone = CheckpointMark("persyn", num_workers=1, zero_stage=0)
    told = r"written by 2 workers with ZeRO stage 2, which 1 with stage 0"
    with pytest.raises(StepError, match=told):
        train_on_workers(partial(take_up, notes, [alone]), one, "students")


def test_what_is_wanted_of_one_disk_is_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 30))
    ours, theirs = tmp_path / "a", tmp_path / "b" / "c"
    assert checkpoints._lack_of_room({ours: 4 << 30, theirs: 1 << 30}) is None
    assert "5.0 GiB left of the 6.0 GiB" in str(
        checkpoints._lack_of_room({ours: 4 << 30, theirs: 2 << 30})
    )


def test_notices_are_looked_for_every_few_seconds_however_short_steps_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = [100.0], list[str]()
    looks: list[float] = []

    def notice() -> Any:
        looks.append(now[0])
        return SimpleNamespace(preempted_node_ids=list(told)) if told else None

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints.ray.train, "get_preemption_info", notice)
    monkeypatch.setattr(
        checkpoints.ray.train.collective, "broadcast_from_rank_zero", lambda number: number
    )
    reporter, wanted = checkpoints.CheckpointReporter(MARK), list[float]()
    for step in range(1000):  # of a tenth of a second
        now[0] += 0.1
        if step == 500:
            told.append("node")
        if reporter.is_wanted_now():
            wanted.append(now[0])
    assert len(looks) < 1000 / 50 + 3
    assert len(wanted) == 1  # once for each node
    assert 0 <= wanted[0] - 150.1 < checkpoints.LOOKS_EVERY + 0.2
    long = checkpoints.CheckpointReporter(MARK)
    looks.clear()
    for _ in range(4):  # of a minute: each is followed by a look
        now[0] += 60
        long.is_wanted_now()
    assert len(looks) == 4
