"""Columns of tables as arrays: Arrow in, numpy out, without a Python object per row.

Axes: P prompts, M teachers, N rows of a table.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

pc: Any = compute  # its functions are made at import, where a type checker does not see them
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
KEY_CHARS = 16


@dataclass
class Codes:
    """Labels as small numbers, in the order in which they were first seen; -1 for null."""

    labels: list[str] = field(default_factory=list)

    def of(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """The code of each row; new labels are added."""
        encoded = column.combine_chunks().dictionary_encode()
        known = {label: code for code, label in enumerate(self.labels)}
        for label in encoded.dictionary.to_pylist():
            if label not in known:
                known[label] = len(self.labels)
                self.labels.append(label)
        codes = np.array([known[label] for label in encoded.dictionary.to_pylist()], np.int32)
        places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(places >= 0, codes[places], -1) if len(codes) else np.full(len(places), -1)


def positions(values: pa.ChunkedArray | pa.Array, among: pa.Array) -> NDArray[np.int64]:
    """Where each value stands among others; -1 where it does not."""
    found = pc.index_in(values, value_set=among)
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def matrix_of(table: pa.Table, column: str, width: int) -> Floats:
    """A column of lists as a matrix (N, width); nulls become NaN."""
    flat = pc.list_flatten(table[column].combine_chunks())
    return np.asarray(pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False)).reshape(-1, width)


@dataclass(frozen=True, eq=False)
class PromptSignals:
    """What the signals of all teachers say of each prompt."""

    best_P: Floats
    """The greatest reward; NaN where none is known."""
    spread_P: Floats
    """The greatest less the smallest reward."""
    all_wrong_P: Booleans
    """No known quality is above 0."""
    disagrees_P: Booleans
    """The likeliest response for the student is none of the best by quality."""


def agreement_of_signals(
    rewards_PM: Floats, quality_PM: Floats, learnability_PM: Floats
) -> PromptSignals:
    """Best, spread and whether quality and learnability point to different teachers.

    Teachers count for the last where both signals are known.
    """
    highest_P, lowest_P = _extreme(rewards_PM, np.fmax), _extreme(rewards_PM, np.fmin)
    is_both_PM = ~(np.isnan(quality_PM) | np.isnan(learnability_PM))
    quality_both_PM = np.where(is_both_PM, quality_PM, -np.inf)
    likely_P = np.where(is_both_PM, learnability_PM, -np.inf).argmax(axis=1)
    of_likely_P = np.take_along_axis(quality_both_PM, likely_P[:, None], axis=1)[:, 0]
    best_quality_P = _extreme(quality_PM, np.fmax)
    return PromptSignals(
        highest_P,
        highest_P - lowest_P,
        best_quality_P <= 0,
        is_both_PM.any(axis=1) & (of_likely_P < quality_both_PM.max(axis=1)),
    )


def sort_keys(messages: pa.Array) -> NDArray[np.bytes_]:
    """What prompts are ordered by: the beginning of their last message, in lower case."""
    keys = pc.utf8_slice_codeunits(last_contents(messages), 0, KEY_CHARS)
    return np.array([key.encode() for key in pc.utf8_lower(keys).to_pylist()], "S24")


def last_contents(messages: pa.Array) -> pa.Array:
    """The text of each conversation's last message; empty without any."""
    ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(messages), 0)))
    lengths = np.diff(ends, prepend=0)
    contents = pc.struct_field(pc.list_flatten(messages), "content")
    last = pa.array(ends - 1, mask=lengths == 0)
    return pc.fill_null(pc.take(contents, last), "")


def _extreme(values_PM: Floats, which: Any) -> Floats:
    return which.reduce(values_PM, axis=1, initial=np.nan)
