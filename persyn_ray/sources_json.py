"""Rows of JSON: an object a line, or one list of objects, whatever the file's ending says.

A number stays as it was written. NaN and infinities, which are no JSON, are no values.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from itertools import chain
from typing import Any, TextIO

from persyn_ray.errors import DataError

_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _: None)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why."""

    detail: str


def objects_of(text: TextIO, file: str) -> Iterator[dict[str, Any] | BadRow | None]:
    """The objects of a text: one a line (None for an empty line), or those of one list.

    Raises:
        DataError: the text begins as a list and is none.
    """
    lines = iter(text)
    begin = list(_up_to_content(lines))
    if begin and begin[-1].lstrip().startswith("["):
        rest = list(_up_to_content(lines))
        # Lines that are lists, each by itself, are lines all the same.
        if not rest or not rest[-1].strip() or isinstance(_value(begin[-1]), BadRow):
            yield from _listed("".join(chain(begin, rest, lines)), file)
            return
        begin += rest
    for line in chain(begin, lines):
        yield _object(_value(line)) if line.strip() else None


def _up_to_content(lines: Iterator[str]) -> Iterator[str]:
    """The next lines, up to and with the first that is not blank."""
    for line in lines:
        yield line
        if line.strip():
            return


def _listed(text: str, file: str) -> Iterator[dict[str, Any] | BadRow]:
    values = _value(text)
    if isinstance(values, BadRow):
        raise DataError(f"{file} is {values.detail}.")
    yield from map(_object, values)


def _value(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError, DecimalException) as error:
        return BadRow(f"no valid JSON: {error}")


def _object(value: Any) -> dict[str, Any] | BadRow:
    return value if isinstance(value, dict | BadRow) else BadRow(f"no JSON object: {value!r:.80}")
