"""Fits two tiny routers with trackers: `python tracked_fit.py RUN MODEL TRACKER...`.

The last line of what it prints is JSON: the curves, and what MLflow and wandb have filed of them.
"""

import json
import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

TEACHERS = ("letters", "digits")


def fit(run: str, model: str, report_to: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Hold-out losses by training and step."""
    from persyn_ray.method.preferences import preferences
    from persyn_ray.models.fit import fit_router
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router, encode_router_prompts
    from persyn_ray.recipe.router import RouterConfig
    from persyn_ray.runtime.train.logs import TrainingLogs
    from persyn_ray.storage.folder import Folder
    from persyn_ray.storage.layout import RunLayout

    given = {"backbone": {"name": model}, "epochs": 2, "batch_size": 4, "report_to": report_to}
    settings, tokenizer = RouterConfig.model_validate(given), load_tokenizer(model)
    texts = [("ab" if n % 2 else "12") * (n % 3 + 1) for n in range(12)]
    ids = encode_router_prompts(tokenizer, [[{"role": "user", "content": t}] for t in texts], 64)
    wins = preferences(np.array([[1.0, 0.0] if n % 2 else [0.0, 1.0] for n in range(12)]))
    rows: list[Any] = [{"input_ids": i, "wins": w} for i, w in zip(ids, wins, strict=True)]
    logs = TrainingLogs(RunLayout(Folder.absolute(run)), "router", report_to)
    curves: dict[str, dict[str, float]] = {}
    for what in ("first", "second one"):
        router = build_router(model, TEACHERS)
        with TemporaryDirectory() as scratch:
            watch = [logs.begin(what)]
            curve = fit_router(
                router, tokenizer, rows[:8], rows[8:], settings, Path(scratch), callbacks=watch
            )
        losses = {str(p.step): p.heldout_loss for p in curve if p.heldout_loss is not None}
        curves[what.replace(" ", "-")] = losses
    logs.end()
    return curves


def filed_by_mlflow() -> list[list[float]]:
    """Hold-out losses of each of its runs."""
    from mlflow import MlflowClient  # pyright: ignore

    client = MlflowClient()
    experiments = [one.experiment_id for one in client.search_experiments()]
    return [
        [one.value for one in client.get_metric_history(run.info.run_id, "eval_loss")]
        for run in client.search_runs(experiments)
    ]


def filed_by_wandb(folder: Path) -> dict[str, list[float]]:
    """Hold-out losses of each of its offline runs, by their names."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore

    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        name, losses = "", []
        for data in log_records(path.read_bytes()):
            record = Record.FromString(data)
            name = record.run.display_name or name
            items = record.history.item
            told = {item.key or "/".join(item.nested_key): item.value_json for item in items}
            losses += [json.loads(told["eval/loss"])] if "eval/loss" in told else []
        found[name] = losses
    return found


def log_records(data: bytes) -> list[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB behind a header of 7 bytes."""
    records, parts, place = [], [], 7
    while place + 7 <= len(data):
        if (left := 32_768 - place % 32_768) < 7:  # no room for a header: the next block
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            records.append(b"".join(parts))
            parts = []
    return records


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    folder, model, *trackers = sys.argv[1:]
    found: dict[str, Any] = {"curves": fit(folder, model, tuple(trackers))}
    if "mlflow" in trackers:
        found["mlflow"] = filed_by_mlflow()
    if "wandb" in trackers:
        found["wandb"] = filed_by_wandb(Path(folder) / "logs" / "router")
    print(json.dumps(found))
