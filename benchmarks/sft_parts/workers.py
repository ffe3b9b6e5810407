"""One worker against two, on a tiny model: examples of every step, and losses.

Workers are those of tests/models/finetune/training_worker.py, plain processes with gloo.
"""

import json
import socket
import subprocess
import sys
from collections import Counter
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
    "arguments": {"logging_steps": 1},
}
EXAMPLES = {f"{number}+{number}?": "=" * (number % 7 + 1) + str(number) for number in range(22)}


def one_and_two(folder: Path) -> dict[str, Any]:
    """Whether both see the same examples in every step, and the largest gap of their losses."""
    from persyn_ray.models.load import save_random

    model = str(save_random("llama", folder / "model"))
    (one, its_losses), (two, their_losses) = (trained(folder, model, num) for num in (1, 2))
    return {
        "same_examples_in_every_step": one == two,
        "max_loss_gap": max(abs(a - b) for a, b in zip(its_losses, their_losses, strict=True)),
        "steps": len(its_losses),
    }


def trained(
    folder: Path, model: str, num_workers: int
) -> tuple[dict[str, Counter[str]], list[float]]:
    """The examples of each step over all workers, and its loss."""
    out = folder / str(num_workers)
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    training = {"name": "plain", "settings": SETTINGS, "examples": EXAMPLES}
    job = {"model": model, "out": str(out), "num_workers": num_workers, "port": port}
    (out / "job.json").write_text(json.dumps(job | {"trainings": [training]}))
    command = [sys.executable, str(WORKER), str(out / "job.json")]
    workers = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, stdout=sys.stderr)
        for rank in range(num_workers)
    ]
    codes = [worker.wait(300) for worker in workers]
    if any(codes):
        raise RuntimeError(f"{num_workers} workers failed")
    seen: dict[str, Counter[str]] = {}
    notes = [json.loads(path.read_text()) for path in (out / "plain").glob("seen-*.json")]
    for note in notes:
        for step, texts in note["steps"].items():
            seen.setdefault(step, Counter()).update(texts)
    return seen, [entry["loss"] for entry in notes[0]["losses"] if "loss" in entry]
