"""Rows of JSON: an object a line, one list of objects, or objects over several lines each.

Which it is shows in the text, whatever the file's ending says. Commas between objects, as in a list
that was cut into lines, and byte order marks of files that were joined say nothing. A number stays
as it was written; NaN and infinities, which are no JSON, are no values.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from itertools import chain
from typing import Any, TextIO

from persyn_ray.errors import DataError

_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _: None)
_FAULTS = (ValueError, RecursionError, DecimalException)
JsonObject = dict[str, Any]
"""Whatever a file of other people holds under names."""
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_LAST_COMMA = re.compile(r",\s*\]\s*\Z")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why."""

    detail: str


def objects_of(text: TextIO, file: str) -> Iterator[JsonObject | BadRow | None]:
    """The objects of a text: one or several a line (None for an empty line), those of one list, or
    those that stand one after another in several lines each.

    Raises:
        DataError: the text begins as a list, or as an object of several lines, and is none.
    """
    lines = iter(text)
    begin, second = list(_up_to_content(lines)), list(_up_to_content(lines))
    first = begin[-1].strip() if begin else ""
    rest = chain(begin, second, lines)
    # Lines that are lists, each by itself, are lines all the same.
    is_alone = not second or not second[-1].strip()
    if first.startswith("[") and (is_alone or isinstance(_value(first), BadRow)):
        yield from _listed("".join(rest), file)
    elif first.startswith("{") and _goes_on(first, second):
        yield from _one_after_another("".join(rest), file)
    else:
        for line in rest:
            yield from _in_line(line)


def _goes_on(first: str, second: list[str]) -> bool:
    """Whether the object of a line goes on in the next one, with another key."""
    follows = bool(second) and second[-1].lstrip().startswith('"')
    return follows and isinstance(_value(first), BadRow)


def _up_to_content(lines: Iterator[str]) -> Iterator[str]:
    """The next lines, up to and with the first that is not blank."""
    for line in lines:
        yield line
        if line.strip():
            return


def _listed(text: str, file: str) -> Iterator[JsonObject | BadRow]:
    values = _value(_LAST_COMMA.sub("]", text))
    if isinstance(values, BadRow):
        raise DataError(f"{file} is {values.detail}.")
    yield from map(_object, values)


def _in_line(line: str) -> Iterator[JsonObject | BadRow | None]:
    """The objects of a line, most often one; a line with a fault is one bad row."""
    try:
        values = list(_values(line))
    except _FAULTS as error:
        values = [BadRow(f"no valid JSON: {error}")]
    yield from map(_object, values) if values else (None,)


def _one_after_another(text: str, file: str) -> Iterator[JsonObject | BadRow]:
    try:
        yield from map(_object, _values(text))
    except _FAULTS as error:
        raise DataError(f"{file} is no valid JSON: {error}.") from error


def _values(text: str) -> Iterator[Any]:
    """The values that stand one after another in a text."""
    place = _BETWEEN.match(text).end()  # pyright: ignore[reportOptionalMemberAccess]
    while place < len(text):
        value, place = _DECODER.raw_decode(text, place)
        yield value
        place = _BETWEEN.match(text, place).end()  # pyright: ignore[reportOptionalMemberAccess]


def _value(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except _FAULTS as error:
        return BadRow(f"no valid JSON: {error}")


def _object(value: Any) -> JsonObject | BadRow:
    return value if isinstance(value, dict | BadRow) else BadRow(f"no JSON object: {value!r:.80}")
