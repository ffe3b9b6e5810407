"""Saves a predictor as one .npz file of plain arrays, and loads it: no code is in the file.

    kind, told, teacher_M, temperature           of the predictor
    parts, weights                               names of its parts, and what each counts
    table.*, neighbours.*, linear.*              the arrays of each part (interactions.py)

Embeddings are written with 4 bytes a number, as backbones give them.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from persyn_ray.errors import DataError
from persyn_ray.method.predictors.fit import Predictor
from persyn_ray.method.predictors.interactions import LinearMap, Neighbours, Part, TaskTable
from persyn_ray.method.predictors.task_means import TaskMeans
from persyn_ray.method.probes import LinearProbe

Arrays = dict[str, Any]  # by name
PROBE = ("mean_D", "deviation_D", "weights_DM", "bias_M", "l2_M")


def save_predictor(predictor: Predictor, path: Path) -> None:
    """Write it, under a temporary name first."""
    arrays: Arrays = {
        "kind": np.array(predictor.kind),
        "told": np.array(predictor.told),
        "teacher_M": predictor.teacher_M,
        "temperature": np.array(predictor.temperature),
        "parts": np.array([_name(part) for _, part in predictor.parts], dtype=np.str_),
        "weights": np.array([weight for weight, _ in predictor.parts], dtype=np.float64),
    }
    for _, part in predictor.parts:
        arrays |= {f"{_name(part)}.{key}": value for key, value in _arrays(part).items()}
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, **arrays)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def load_predictor(path: Path) -> Predictor:
    """What `save_predictor` has written.

    Raises:
        DataError: the file holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        named = zip(arrays["weights"].tolist(), arrays["parts"].tolist(), strict=True)
        return Predictor(
            str(arrays["kind"]),
            arrays["teacher_M"],
            tuple((weight, _part(name, arrays)) for weight, name in named),
            str(arrays["told"]),
            float(arrays["temperature"]),
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path} is no predictor: {error}. Fit the router again: --from router."
        ) from error


def _name(part: Part) -> str:
    match part:
        case TaskTable():
            return "table"
        case Neighbours():
            return "neighbours"
        case LinearMap():
            return "linear"


def _arrays(part: Part) -> Arrays:
    match part:
        case TaskTable(table):
            return {
                "tasks": np.array(table.tasks, dtype=np.str_),
                "teacher_M": table.teacher_M,
                "interaction_KM": table.interaction_KM,
            }
        case Neighbours(embeddings_ND, interaction_NM, k):
            return {
                "embeddings_ND": embeddings_ND.astype(np.float32),
                "interaction_NM": interaction_NM,
                "k": np.array(k),
            }
        case LinearMap(tasks, probe):
            of_probe = {name: getattr(probe, name) for name in PROBE}
            return {"tasks": np.array(tasks, dtype=np.str_), **of_probe}


def _part(name: str, arrays: Arrays) -> Part:
    own = {
        key.removeprefix(f"{name}."): value
        for key, value in arrays.items()
        if key.startswith(f"{name}.")
    }
    if name == "table":
        table = TaskMeans(tuple(own["tasks"].tolist()), own["teacher_M"], own["interaction_KM"])
        return TaskTable(table)
    if name == "neighbours":
        known_ND = own["embeddings_ND"].astype(np.float64)
        return Neighbours(known_ND, own["interaction_NM"], int(own["k"]))
    if name == "linear":
        return LinearMap(tuple(own["tasks"].tolist()), LinearProbe(*(own[one] for one in PROBE)))
    raise ValueError(f"a part is called {name!r}")
