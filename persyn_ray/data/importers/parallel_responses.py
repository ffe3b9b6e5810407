"""Converts public tables of parallel responses into the form that recipes read.

    OUT/prompts.parquet             question, and answer where one is known
    OUT/responses/TEACHER.parquet   question, teacher, response, and a column for each score

- Magpie-100K-Generator-Zoo: a row per prompt with `uuid`, `instruction` and, for each of its 19
  teachers, a column of its name that holds `content` and the scores of three reward models.
- Any other table, such as PerSyn-Math: long (a row per response, with columns for prompt, answer,
  teacher and response) or wide (a row per prompt, with a column for each teacher's response).

A file for each teacher, because `engine: {kind: recorded}` reads its whole file. The scores are
read by `quality: {kind: recorded}`. Texts are kept as they are. A response that a table lacks is
left out, never filled in; what cannot be read is counted, and the rest goes on. Of several rows
about the same prompt and teacher the first counts; the others are kept in OUT/further/.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from persyn_ray.data.cells import label_of
from persyn_ray.data.files.rows import BadRow, Row, columns_of, expand, nearest, rows_of, rows_with
from persyn_ray.data.importers.converting import (
    Unreadable,
    convert,
    prompt_text,
    respond,
    unicode_text,
)
from persyn_ray.data.importers.writing import Entry, Imported
from persyn_ray.errors import ConfigError, DataError

ZOO_SCORES = (
    "Skywork-Reward-Llama-3.1-8B",
    "Skywork-Reward-Gemma-2-27B",
    "ArmoRM-Llama3-8B-v0.1",
)
PROMPT_COLUMNS = ("problem", "prompt", "question", "instruction")
ANSWER_COLUMNS = ("answer", "reference", "ground_truth")
TEACHER_COLUMNS = ("teacher", "model")
RESPONSE_COLUMNS = ("response", "content")
FILES = "the files to import"
ZOO = "SOURCES to files of the zoo as published; `persyn import-parallel` reads other tables"
OPTIONS = "--prompt-column, --answer-column, --teacher-column, --response-column or --teacher"


def import_zoo(paths: Sequence[str], out: Path) -> Imported:
    """Convert files of Magpie-100K-Generator-Zoo (parquet or jsonl, as published).

    Raises:
        ConfigError: a path names no file, or `out` is there already.
        DataError: a file is damaged, or no column holds responses as published.
    """

    def read(row: Row) -> Entry:
        entry = Entry(prompt_text(row.get("instruction"), "column 'instruction'"), None, [], [])
        for name, cell in row.items():
            if _is_zoo_response(cell):
                scores = tuple(_score(entry, name, cell, one) for one in ZOO_SCORES)
                respond(entry, name, cell["content"], scores)
        return entry

    files = expand(paths, FILES)
    rows = rows_with(files, ("instruction",), ZOO, also=None)
    return convert(rows, read, out, ZOO_SCORES, False, files[0])


def import_parallel(
    paths: Sequence[str],
    out: Path,
    *,
    prompt_column: str | None = None,
    answer_column: str | None = None,
    teacher_column: str | None = None,
    response_column: str | None = None,
    teachers: Sequence[str] = (),
) -> Imported:
    """Convert a long table, or a wide one whose `teachers` are columns of responses.

    A column that is not named is found by its usual names, see `PROMPT_COLUMNS` and those below it;
    answers may be absent.

    Raises:
        ConfigError: a column is not there or could be one of several, a path names no file, or
            `out` is there already.
        DataError: a file is damaged, or there is no response at all.
    """
    files = expand(paths, FILES)
    columns = _columns_of(files)
    of = partial(_column, files[0], columns)
    prompt = of(prompt_column, PROMPT_COLUMNS, "--prompt-column")
    answer = None
    if answer_column is not None or set(ANSWER_COLUMNS) & set(columns):
        answer = of(answer_column, ANSWER_COLUMNS, "--answer-column")
    if teachers and (teacher_column or response_column):
        raise ConfigError(
            "--teacher names the columns of a wide table, --teacher-column and --response-column "
            "those of a long one: give the one or the other."
        )
    if teachers:
        needed, responses_of = tuple(teachers), _wide(teachers)
    else:
        teacher = of(teacher_column, TEACHER_COLUMNS, "--teacher-column")
        response = of(response_column, RESPONSE_COLUMNS, "--response-column")
        needed, responses_of = (teacher, response), _long(teacher, response)
    shared = (prompt, *needed) if answer is None else (prompt, answer, *needed)

    def read(row: Row) -> Entry:
        found = None if answer is None else unicode_text(label_of(row.get(answer)))
        entry = Entry(prompt_text(row.get(prompt), f"column {prompt!r}"), found, [], [])
        for name, cell in responses_of(row):
            respond(entry, name, cell)
        return entry

    rows = rows_with(files, shared, OPTIONS)
    return convert(rows, read, out, (), answer is not None, files[0])


def _wide(teachers: Sequence[str]) -> Callable[[Row], list[tuple[str, Any]]]:
    return lambda row: [(name, row.get(name)) for name in teachers]


def _long(teacher: str, response: str) -> Callable[[Row], list[tuple[str, Any]]]:
    def responses(row: Row) -> list[tuple[str, Any]]:
        name = unicode_text(label_of(row.get(teacher)))
        if name is None:
            raise Unreadable(f"column {teacher!r} is empty")
        return [(name, row.get(response))]

    return responses


def _is_zoo_response(cell: Any) -> bool:
    return isinstance(cell, dict) and "content" in cell


def _columns_of(files: Sequence[str]) -> list[str]:
    """The columns of all files.

    Raises:
        DataError: there are none, for no row can be read.
    """
    columns = list(dict.fromkeys(name for file in files for name in columns_of(file)))
    if not columns:
        bad = ((number, row) for number, row in rows_of(files[0]) if isinstance(row, BadRow))
        why = next((f": row {number}: {row.detail}" for number, row in bad), "")
        raise DataError(f"{files[0]} holds no row that can be read{why}.")
    return columns


def _column(
    file: str, columns: Sequence[str], given: str | None, usual: Sequence[str], option: str
) -> str:
    found = [name for name in usual if name in columns] if given is None else [given]
    if len(found) == 1 and found[0] in columns:
        return found[0]
    what = f"none of {list(usual)}" if not found else f"{found} to choose from"
    if given is not None:
        what = f"no column {given!r}"
    near = [(name, nearest(name, columns)) for name in (found or usual) if name not in columns]
    hints = "".join(f" {one!r} is nearest to {name!r}." for name, one in near if one)
    raise ConfigError(f"{file} has {what}; its columns are {columns}.{hints} Set {option}.")


def _score(entry: Entry, teacher: str, cell: dict[str, Any], name: str) -> float | None:
    """A score, None where there is none; one that is no number is added to the entry's faults."""
    value = cell.get(name)
    try:
        score = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        entry.faults.append(f"score {name} of {teacher}: a number is expected, found {value!r:.80}")
        return None
    return score if math.isfinite(score) else None
