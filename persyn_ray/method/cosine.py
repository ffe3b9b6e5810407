"""Cosines between embeddings, in stretches of rows: what nearest neighbours are found by.

    cosine(a, b) = a . b / (|a| |b|)

A million prompts against a parallel set of 2,500 would make 20 GB of cosines at once; they are
handed out in stretches instead. Axes: P prompts, N prompts of the parallel set, B rows of a
stretch, D embedding. Which prompts count as near is not decided here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats

Embeddings = NDArray[np.floating[Any]]
"""Float32 or float64; float32 is widened a stretch at a time, never as a whole."""

CHUNK = 1_000_000
"""Numbers of a stretch: 8 MB, of which a handful are held at once."""


def unit_rows(embeddings_PD: Embeddings, what: str) -> Floats:
    """Rows of length 1, shape (P, D).

    Raises:
        DataError: there is no row, or one has a value that is not finite or no direction.
    """
    if embeddings_PD.ndim != 2 or not embeddings_PD.size:
        raise DataError(f"{what} have shape {embeddings_PD.shape}; need (prompts, dimensions).")
    rows_PD = np.asarray(embeddings_PD, dtype=np.float64)
    # The largest value first: squares of very large or small ones leave the range of floats.
    largest_P1 = np.abs(rows_PD).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(largest_P1[:, 0]) | (largest_P1[:, 0] == 0))
    if bad.size:
        raise DataError(
            f"{what}: row {bad[0]} is all zeros or not finite, so it has no direction; a router's "
            "backbone that gives such embeddings is broken, or overflows in its dtype."
        )
    rows_PD = rows_PD / largest_P1
    return rows_PD / np.linalg.norm(rows_PD, axis=1, keepdims=True)


def cosines(embeddings_PD: Embeddings, unit_ND: Floats) -> Iterator[tuple[slice, Floats]]:
    """Stretches of rows and their cosines (B, N) to rows of length 1, in order.

    Raises:
        DataError: the dimensions differ, or as in `unit_rows`.
    """
    require_width(embeddings_PD, unit_ND.shape[1])
    for rows in stretches(embeddings_PD, max(unit_ND.shape)):
        yield rows, unit_rows(embeddings_PD[rows], "Embeddings") @ unit_ND.T


def stretches(embeddings_PD: Embeddings, row_size: int) -> Iterator[slice]:
    """Stretches of rows that make about `CHUNK` numbers at so many numbers a row."""
    num_rows = max(1, CHUNK // row_size)
    for start in range(0, len(embeddings_PD), num_rows):
        yield slice(start, start + num_rows)


def require_width(embeddings_PD: Embeddings, width: int) -> None:
    """Refuse embeddings of another backbone, as far as their width tells.

    Raises:
        DataError: the width differs.
    """
    if embeddings_PD.ndim != 2 or embeddings_PD.shape[1] != width:
        raise DataError(
            f"Embeddings have shape {embeddings_PD.shape}; the parallel set's are {width} wide. "
            "Both must come from the same backbone."
        )
