"""Fits two tiny routers with trackers: `python tracked_fit.py RUN MODEL TRACKER...`.

The last line of what it prints is JSON: the curves, and what MLflow has filed of them.
"""

import json
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


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    folder, model, *trackers = sys.argv[1:]
    found: dict[str, Any] = {"curves": fit(folder, model, tuple(trackers))}
    print(json.dumps(found | {"mlflow": filed_by_mlflow()}))
