"""Calls a quality of one's own: rows in, numbers or what went wrong out.

What a function returns for a row is a number, or None where it does not know. Anything else, and
whatever it raises, is an unknown quality with its reason; a call of several rows that fails is
made again row by row, so that a bad row costs no other.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from persyn_ray.checks.verifier import Verdict
from persyn_ray.credentials import cut_secrets

FAILED, UNKNOWN, TIMED_OUT, CRASHED = "failed", "unknown", "timed_out", "crashed"
LONGEST = 500
"""Characters that are kept of what went wrong."""
Scored = tuple[Verdict, str | None]
"""A verdict, and what went wrong."""
_Item = TypeVar("_Item")


class QualityRow(TypedDict):
    """One response, as a quality of one's own is given it."""

    prompt_id: str
    teacher: str
    messages: list[dict[str, str]]
    """The prompt: messages with `role` and `content`."""
    response: str
    """The answer, without its thinking."""
    reference: str | None
    """By `prompts.reference_column`."""
    task: str | None
    """By `prompts.task_column`."""


class CallFailed(Exception):
    """A call gave nothing: outcome and detail."""


Call = Callable[[Sequence[QualityRow]], list[Scored]]
"""Rows in, as many verdicts out; raises CallFailed."""


def called(
    function: Callable[..., Any], settings: Mapping[str, Any], rows: Sequence[QualityRow]
) -> list[Scored]:
    """What a function says of rows.

    Raises:
        CallFailed: it raised, or did not return one value for each row.
    """
    try:
        found = function([dict(row) for row in rows], **settings)
    except Exception as error:
        raise CallFailed(FAILED, f"{type(error).__name__}: {error}") from error
    values = _listed(found)
    if len(values) != len(rows):
        raise CallFailed(FAILED, f"returned {len(values)} values for {len(rows)} rows")
    return [_scored(value) for value in values]


def row_by_row(call: Call, rows: Sequence[QualityRow]) -> list[Scored]:
    """The verdicts of a call, whose rows are tried one by one where the whole fails."""
    try:
        return call(rows)
    except CallFailed as failure:
        if len(rows) > 1:
            return [scored for row in rows for scored in row_by_row(call, [row])]
        outcome, detail = failure.args
        return [(Verdict(outcome, None), cut_secrets(detail)[:LONGEST])]


def stretches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """So many items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _listed(found: Any) -> list[Any]:
    if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
        raise CallFailed(FAILED, f"returned {type(found).__name__}, not a value for each row")
    return list(found)


def _scored(value: Any) -> Scored:
    if hasattr(value, "item"):  # of numpy or torch
        value = value.item()
    if value is None:
        return Verdict(UNKNOWN, None), None
    if not isinstance(value, bool | int | float):
        return Verdict(FAILED, None), f"returned {value!r:.100}, which is no number"
    if not math.isfinite(value):
        return Verdict(FAILED, None), f"returned {value}; None says that a quality is unknown"
    return Verdict("scored", float(value)), None
