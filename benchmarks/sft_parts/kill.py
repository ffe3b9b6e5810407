"""Step finetune of the lab on two workers, a worker and then the whole run killed (-9) in epoch 2.

One run ends undisturbed. In its copy, from before the step, kill -9 takes a worker, which Ray Train
starts again, and later `persyn run` itself, which is started again by the same command. What each
step reads is noted by `watch_steps.py`; a step counts in the last process that trained it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from publishing import ROOT

from sft_parts.step import SMALL

SETTINGS = (
    *SMALL,
    "resources.finetune.workers=2",
    "resources.finetune.cpus=0.5",
    "finetune.epochs=2",
    "finetune.batch_size=8",
    "finetune.micro_batch_size=4",
    "finetune.packing=false",
    "finetune.save_steps=2",
    "finetune.arguments={logging_steps: 1}",
)
SAVE_STEPS = 2
LOST_STEPS = 1
"""Whole steps after the last checkpoint and before the kill."""
SECONDS = 900


@dataclass
class Attempt:
    """What workers that trained together noted."""

    begin: int
    steps: dict[int, Counter[str]] = field(default_factory=dict[int, Counter[str]])
    ranks: set[int] = field(default_factory=set[int])


def measure(folder: Path) -> dict[str, Any]:
    """Examples seen too often or never, the gap of losses, and bytes after so many saves."""
    whole, killed = (folder / name for name in ("whole", "killed"))
    run(whole, "synthesize")
    shutil.copytree(whole / "run", killed / "run")
    run(whole, "finetune")
    expected = sum((one for one in lived(whole).values()), Counter[str]())
    steps = len(lived(whole))
    in_epoch_2 = steps // 2 + SAVE_STEPS
    worker_at = in_epoch_2 + in_epoch_2 % SAVE_STEPS + LOST_STEPS
    driver_at = worker_at + 2 * SAVE_STEPS
    run(killed, "finetune", {"kill_worker_at": worker_at, "kill_driver_at": driver_at})
    run(killed, "finetune", {"kill_worker_at": worker_at, "kill_driver_at": driver_at})
    begun = [one.begin for one in attempts(killed)]
    if len(begun) != 3:
        raise RuntimeError(f"expected to be started three times, not from steps {begun}")
    found = sum((one for one in lived(killed).values()), Counter[str]())
    ours, theirs = losses(whole), losses(killed)
    return {
        "steps": steps,
        "worker_killed_in_step": worker_at,
        "run_killed_in_step": driver_at,
        "started_from_steps": begun,
        "examples": expected.total(),
        "seen_twice": (found - expected).total(),
        "never_seen": (expected - found).total(),
        "same_examples_in_every_step": lived(whole) == lived(killed),
        "max_loss_gap": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "disk_after_saves": disk_after_saves(whole),
    }


def run(folder: Path, until: str, told: dict[str, int] | None = None) -> None:
    """`persyn run` of the lab; killed as soon as a worker waits for that."""
    watch = folder / "watch"
    watch.mkdir(parents=True, exist_ok=True)
    checkpoints = {"checkpoints": str(folder / "run" / "checkpoints")}
    (watch / "watch.json").write_text(json.dumps(checkpoints | (told or {})))
    shutil.copy(Path(__file__).with_name("watch_steps.py"), watch / "sitecustomize.py")
    environment = {"PYTHONPATH": f"{watch}:{ROOT}", "WATCH_STEPS": str(watch)}
    recipe = ROOT / "persyn_ray" / "lab" / "quickstart.yaml"
    command = [sys.executable, "-m", "persyn_ray.cli", "run", str(recipe)]
    command += [f"run={folder / 'run'}", *SETTINGS, "--until", until]
    waits, has_waited = watch / "driver", (watch / "driver").exists()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=sys.stderr)
    deadline = time.monotonic() + SECONDS
    while process.poll() is None:
        if time.monotonic() > deadline or (waits.exists() and not has_waited):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.1)
    is_meant = waits.exists() and not has_waited
    if process.returncode != (-signal.SIGKILL if is_meant else 0):
        raise RuntimeError(f"persyn run until {until} ended with {process.returncode}")


def attempts(folder: Path) -> list[Attempt]:
    """What the workers noted, in the order in which they were started."""
    found: list[Attempt] = []
    for path in sorted((folder / "watch").glob("steps-*.jsonl")):
        notes = [json.loads(line) for line in path.read_text().splitlines()]
        rank, begin = notes[0]["rank"], notes[0]["step"]
        if not found or rank in found[-1].ranks:
            found.append(Attempt(begin))
        found[-1].ranks.add(rank)
        for note in notes:
            found[-1].steps.setdefault(note["step"], Counter()).update(note["rows"])
    return found


def lived(folder: Path) -> dict[int, Counter[str]]:
    """Examples of each step that the student has learned from: of none that was undone."""
    steps: dict[int, Counter[str]] = {}
    for attempt in attempts(folder):
        kept = {step: rows for step, rows in steps.items() if step < attempt.begin}
        steps = kept | attempt.steps
    return steps


def losses(folder: Path) -> list[float]:
    """The loss of every step, as the student's own facts tell."""
    (facts,) = (folder / "run" / "students").rglob("finetune.json")
    curve = json.loads(facts.read_text())["loss_curve"]
    return [at["train_loss"] for at in curve if at.get("train_loss") is not None]


def disk_after_saves(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of the run's checkpoints and of the first worker's folder, a step after so many saves.

    The step before the next save: what was handed over has had the time to leave.
    """
    notes = [
        json.loads(line)
        for path in (folder / "watch").glob("steps-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    first = {note["step"]: note for note in notes if note["rank"] == 0}
    return {
        str(saves): {what: note[f"{what}_bytes"] for what in ("run", "worker")}
        for saves in (1, 2, 4, 8, 12)
        if (note := first.get((saves + 1) * SAVE_STEPS - 1)) is not None
    }
