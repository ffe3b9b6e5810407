"""Rows of CSV: the delimiter is found by the header, and quotation marks must be closed.

A mark that is left open swallows rows until the next one, in silence; so the text is held to the
rule (a mark within quotes is written twice), and what breaks it is refused with its line.
"""

import csv
from collections.abc import Iterator
from itertools import chain
from typing import Any, TextIO

from persyn_ray.errors import DataError

DELIMITERS = ",;\t|"
LONGEST = 2**31 - 1  # the default of 128 KiB refuses long responses


def records_of(text: TextIO, file: str) -> Iterator[tuple[int, list[str]]]:
    """The header and the records behind it, each with the line where it begins; blank lines are
    left out.

    Raises:
        DataError: quotation marks do not match.
    """
    csv.field_size_limit(LONGEST)
    lines = iter(text)
    skipped, header = _first_line(lines)
    delimiter = _delimiter(header)
    if header.lower().startswith("sep="):  # spreadsheets name it in a line before the header
        delimiter = header[4:5]
        more, header = _first_line(lines)
        skipped += more + 1
    names = next(csv.reader([header], delimiter=delimiter), [])
    spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    reader = csv.reader(
        chain([header], lines), delimiter=delimiter, skipinitialspace=spaced, strict=True
    )
    while True:
        line = skipped + reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(_complaint(file, line, skipped + reader.line_num, error)) from error
        if record is None:
            return
        if record:
            yield line, record


def _first_line(lines: Iterator[str]) -> tuple[int, str]:
    for number, line in enumerate(lines):
        if line.strip():
            return number, line
    return 0, ""


def _delimiter(header: str) -> str:
    """The one that parts the header into most columns; of equals the first of DELIMITERS."""
    return max(DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))


def _complaint(file: str, first: int, last: int, error: Any) -> str:
    if "unexpected end" in str(error):
        what = "a quotation mark is opened there and never closed"
    elif "expected after" in str(error):
        where = f"that begins there and comes to line {last} " if last > first else ""
        what = (
            f"the record {where}has a quotation mark within quotes, or one that is not closed "
            'before the next begins; a mark within quotes is written twice ("")'
        )
    else:
        what = str(error)
    return f"{file}, line {first}: {what}. No row of the file is taken until that is mended."
