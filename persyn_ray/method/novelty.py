"""Novelty: prompts unlike the parallel set, on which a router has never seen a reward.

    distance(p) = 1 - cosine(p, its k-th nearest prompt of the parallel set)
    novel(p)    = distance(p) > threshold
    threshold   = a quantile of the same distance within the parallel set, each prompt left out

So about 1 - quantile of prompts like the parallel set are flagged as well, 1 % by default. The k-th
and not the nearest, because a single odd prompt in the parallel set must not vouch for its like. It
says that a prompt is far away, not that the router is wrong on it, and it sees no more than the
embedding does.

Axes: P prompts, N prompts of the parallel set, B rows of a stretch, D embedding.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Booleans, Floats
from persyn_ray.method.cosine import Embeddings, cosines, unit_rows

ARRAYS = ("unit", "neighbour", "threshold")


@dataclass(frozen=True, eq=False)
class Novelty:
    """The parallel set's embeddings and the distance from which on a prompt is novel."""

    unit_ND: Floats
    """Rows of length 1, as rounded to float32 for the file."""
    k: int
    threshold: float
    """Cosine distance, from 0 to 2."""

    @classmethod
    def fit(cls, parallel_ND: Embeddings, k: int = 5, quantile: float = 0.99) -> "Novelty":
        """Learn the threshold from the parallel set.

        Raises:
            ConfigError: the quantile is not between 0 and 1, or the set has not k + 1 prompts.
            DataError: an embedding is not finite or all zeros.
        """
        if not 0 < quantile < 1:
            raise ConfigError(f"quantile is {quantile}; it must lie between 0 and 1, 0.99 is 1 %.")
        unit_ND = unit_rows(parallel_ND, "Embeddings of the parallel set")
        # Rounded before anything is measured, so that a loaded copy decides the same.
        unit_ND = unit_ND.astype(np.float32).astype(np.float64)
        if not 1 <= k < len(unit_ND):
            raise ConfigError(
                f"k is {k}; with {len(unit_ND)} prompts in the parallel set it must be from 1 to "
                f"{len(unit_ND) - 1}."
            )
        # A prompt is its own nearest neighbour, so the next one is the k-th among the others.
        within_N = _distance(unit_ND, unit_ND, k + 1)
        return cls(unit_ND, k, float(np.quantile(within_N, quantile, method="higher")))

    def distance(self, embeddings_PD: Embeddings) -> Floats:
        """Cosine distance to the k-th nearest parallel prompt, shape (P,).

        A prompt that is in the parallel set counts itself among the k.

        Raises:
            DataError: an embedding has another width, or no direction.
        """
        return _distance(embeddings_PD, self.unit_ND, self.k)

    def is_novel(self, embeddings_PD: Embeddings) -> Booleans:
        """Which prompts lie farther away than the threshold, shape (P,).

        Raises:
            DataError: as in `distance`.
        """
        return self.distance(embeddings_PD) > self.threshold

    def save(self, path: Path) -> None:
        """Write a .npz file of 4 bytes a number, under a temporary name first."""
        values = (self.unit_ND.astype(np.float32), self.k, self.threshold)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, **dict(zip(ARRAYS, map(np.asarray, values), strict=True)))
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    @classmethod
    def load(cls, path: Path) -> "Novelty":
        """What `save` has written; it decides exactly as before.

        Raises:
            ConfigError: there is no such file.
            DataError: the file holds something else.
        """
        if not path.is_file():
            raise ConfigError(f"No novelty file at {path}: it is written beside a router's model.")
        try:
            with np.load(path) as arrays:
                unit_ND, k, threshold = (arrays[name] for name in ARRAYS)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path} is no novelty file: {error}") from error
        return cls(unit_ND.astype(np.float64), int(k), float(threshold))


def _distance(embeddings_PD: Embeddings, unit_ND: Floats, k: int) -> Floats:
    distance_P = np.empty(len(embeddings_PD))
    for rows, cosines_BN in cosines(embeddings_PD, unit_ND):
        distance_P[rows] = 1.0 - np.partition(cosines_BN, -k, axis=1)[:, -k]
    return np.clip(distance_P, 0.0, 2.0)
