"""Predictors on disk: what is loaded decides as what was saved, and foreign files are refused."""

from pathlib import Path

import numpy as np
import pytest

from persyn_ray.errors import DataError
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import KINDS, fit_predictor
from persyn_ray.method.predictors.saved import load_predictor, save_predictor


def parallel(num: int = 150) -> tuple[PromptFeatures, np.ndarray]:
    """Rewards that hang on the task and on the embedding, some of them unknown."""
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 3, num)
    embeddings = rng.normal(size=(num, 5)).astype(np.float32).astype(np.float64)
    rewards = 0.5 * np.eye(3)[tasks] + embeddings[:, :3] + rng.normal(0, 0.2, (num, 3))
    rewards[:, 0] += 2.0 * (embeddings[:, 3] * embeddings[:, 4] > 0)  # which no linear map finds
    rewards[rng.random(rewards.shape) < 0.1] = np.nan
    labels = tuple(None if n % 9 == 0 else f"тема {task}" for n, task in enumerate(tasks))
    return PromptFeatures(labels, embeddings), rewards


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_predictor_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    features, rewards = parallel()
    predictor = fit_predictor(kind, features, rewards)
    save_predictor(predictor, tmp_path / "predictor.npz")
    loaded = load_predictor(tmp_path / "predictor.npz")
    assert (loaded.kind, loaded.told) == (kind, predictor.told)
    asked = PromptFeatures(("тема 1", "never seen", None), features.embeddings_PD[:3])
    np.testing.assert_array_equal(loaded.logits(asked), predictor.logits(asked))
    if kind == "stacked":
        assert len(loaded.parts) > 1


def test_a_file_of_something_else_is_refused_and_no_code_is_run(tmp_path: Path) -> None:
    path = tmp_path / "predictor.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="is no predictor"):
        load_predictor(path)
    np.savez(path, kind=np.array("constant"))
    with pytest.raises(DataError, match="--from router"):
        load_predictor(path)
    features, rewards = parallel()
    save_predictor(fit_predictor("constant", features, rewards), path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **(arrays | {"teacher_M": np.array([print], dtype=object)}))
    with pytest.raises(DataError, match="is no predictor"):
        load_predictor(path)
    np.savez(path, **(arrays | {"parts": np.array(["forest"]), "weights": np.ones(1)}))
    with pytest.raises(DataError, match="forest"):
        load_predictor(path)
