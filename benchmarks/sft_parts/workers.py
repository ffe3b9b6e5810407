"""A tiny model on one worker and on two, and killed (-9) in its second epoch: examples of every
step, and losses.

Workers are those of tests/models/finetune/training_worker.py, plain processes with gloo.
"""

import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publishing import ROOT

WORKER = ROOT / "tests" / "models" / "finetune" / "training_worker.py"
SETTINGS = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "warmup_ratio": 0.0,
    "save_steps": 1,
    "arguments": {"logging_steps": 1},
}
EXAMPLES = {f"{number}+{number}?": "=" * (number % 7 + 1) + str(number) for number in range(22)}
SAVED_AT, KILLED_IN = 4, 5
"""Steps from 0 on, of six, three an epoch: those from 4 on are lost, and one of them is whole."""


@dataclass(frozen=True)
class Seen:
    """What the workers of a training saw."""

    steps: dict[str, Counter[str]]
    """The examples of each step over all workers."""
    losses: list[float]


def measure(folder: Path) -> dict[str, Any]:
    """Whether one and two see the same in every step, their gap of losses, what resuming loses."""
    from persyn_ray.models.load import save_random

    model = str(save_random("llama", folder / "model"))
    one, two = (trained(folder, model, num)["plain"] for num in (1, 2))
    return {
        "same_examples_in_every_step": one.steps == two.steps,
        "max_loss_gap": max(abs(a - b) for a, b in zip(one.losses, two.losses, strict=True)),
        "steps": len(one.losses),
        **resumed(folder, model, one),
    }


def resumed(folder: Path, model: str, whole: Seen) -> dict[str, int]:
    """Examples that a student has seen too often, or never, whose two workers were killed in the
    midst of a step of the second epoch and which went on from a checkpoint before that."""
    saved = folder / "saved"
    saving = SETTINGS | {"save_steps": SAVED_AT}
    killed = trained(
        folder, model, 2, {"killed": {"save": str(saved), "kill_at": KILLED_IN}}, saving
    )
    again = {"resumed": {"resume": str(saved / f"checkpoint-{SAVED_AT}")}}
    after = trained(folder, model, 2, again, saving)["resumed"].steps
    lived = {step: texts for step, texts in killed["killed"].steps.items() if int(step) < SAVED_AT}
    if KILLED_IN not in map(int, killed["killed"].steps) or lived.keys() & after.keys():
        raise RuntimeError("the workers were not killed, or went on from elsewhere")
    found = sum((*lived.values(), *after.values()), Counter())
    expected = sum(whole.steps.values(), Counter())
    return {"seen_twice": (found - expected).total(), "never_seen": (expected - found).total()}


def trained(
    folder: Path,
    model: str,
    num_workers: int,
    trainings: dict[str, dict[str, Any]] | None = None,
    settings: dict[str, Any] = SETTINGS,
) -> dict[str, Seen]:
    """What so many workers see in each training, one after the other."""
    every = trainings or {"plain": {}}
    out = folder / "-".join((str(num_workers), *every))
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [
        {"name": name, "settings": settings, "examples": EXAMPLES} | every[name] for name in every
    ]
    job = {"model": model, "out": str(out), "num_workers": num_workers, "port": port}
    (out / "job.json").write_text(json.dumps(job | {"trainings": given}))
    command = [sys.executable, str(WORKER), str(out / "job.json")]
    workers = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, stdout=sys.stderr)
        for rank in range(num_workers)
    ]
    codes = {worker.wait(300) for worker in workers}
    expected = -signal.SIGKILL if any("kill_at" in one for one in every.values()) else 0
    if codes != {expected}:
        raise RuntimeError(f"{num_workers} workers ended with {codes}")
    return {name: seen_in(out / name) for name in every}


def seen_in(folder: Path) -> Seen:
    """What the workers noted in a training's folder."""
    steps: dict[str, Counter[str]] = {}
    notes = [json.loads(path.read_text()) for path in sorted(folder.glob("seen-*.json"))]
    for note in notes:
        for step, texts in note["steps"].items():
            steps.setdefault(step, Counter()).update(texts)
    return Seen(steps, [entry["loss"] for entry in notes[0].get("losses", ()) if "loss" in entry])
