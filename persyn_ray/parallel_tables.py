"""Bring public tables of parallel responses into the form that recipes read.

    OUT/prompts.parquet             question, and answer where one is known
    OUT/responses/TEACHER.parquet   question, teacher, response, and a column for each score

- Magpie-100K-Generator-Zoo: a row per prompt with `uuid`, `instruction` and, for each of its 19
  teachers, a column of its name that holds `content` and the scores of three reward models.
- Any other table, such as PerSyn-Math: long (a row per response, with columns for prompt, answer,
  teacher and response) or wide (a row per prompt, with a column for each teacher's response).

A file for each teacher, because `engine: {kind: recorded}` reads its whole file. The scores are
read by `quality: {kind: recorded}`. Texts are kept as they are. A response that a table lacks is
left out, never filled in. Of several rows about the same prompt and teacher the first counts.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.parallel_writing import Entry, Imported, Response, Tables
from persyn_ray.sources import BadRow, Row, columns_of, expand, rows_of

ZOO_SCORES = (
    "Skywork-Reward-Llama-3.1-8B",
    "Skywork-Reward-Gemma-2-27B",
    "ArmoRM-Llama3-8B-v0.1",
)
PROMPT_COLUMNS = ("problem", "prompt", "question", "instruction")
ANSWER_COLUMNS = ("answer", "reference", "ground_truth")
TEACHER_COLUMNS = ("teacher", "model")
RESPONSE_COLUMNS = ("response", "content")


class _Unreadable(Exception):
    """A row without a prompt, or with text that is no Unicode."""


_Reader = Callable[[Row], Entry]


def import_zoo(paths: Sequence[str], out: Path) -> Imported:
    """Convert files of Magpie-100K-Generator-Zoo (parquet or jsonl, as published).

    Raises:
        ConfigError: a path names no file, or `out` is there already.
        DataError: no column holds responses as published, or a value is of another type.
    """

    def read(row: Row) -> Entry:
        cells = {name: cell for name, cell in row.items() if _is_zoo_response(cell)}
        responses = [
            Response(name, _text(cell["content"]), tuple(_score(cell, one) for one in ZOO_SCORES))
            for name, cell in cells.items()
        ]
        return Entry(_prompt(row, "instruction"), None, responses)

    files = expand(paths, "the files to import")
    _require(("instruction",), files, "the zoo has it as published")
    return _convert(files, read, out, ZOO_SCORES, with_answers=False)


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
        DataError: a value is of another type, or there is no response at all.
    """
    files = expand(paths, "the files to import")
    columns = columns_of(files[0])
    prompt = _column(prompt_column, PROMPT_COLUMNS, columns, "--prompt-column")
    answer = None
    if answer_column is not None or set(ANSWER_COLUMNS) & set(columns):
        answer = _column(answer_column, ANSWER_COLUMNS, columns, "--answer-column")
    if teachers and (teacher_column or response_column):
        raise ConfigError(
            "--teacher names the columns of a wide table, --teacher-column and --response-column "
            "those of a long one: give the one or the other."
        )
    if teachers:
        needed, responses_of = tuple(teachers), _wide(teachers)
    else:
        teacher = _column(teacher_column, TEACHER_COLUMNS, columns, "--teacher-column")
        response = _column(response_column, RESPONSE_COLUMNS, columns, "--response-column")
        needed, responses_of = (teacher, response), _long(teacher, response)
    shared = (prompt, *needed) if answer is None else (prompt, answer, *needed)
    _require(shared, files, "all files need the columns that are read from the first")

    def read(row: Row) -> Entry:
        return Entry(_prompt(row, prompt), _answer(row, answer), responses_of(row))

    return _convert(files, read, out, (), with_answers=answer is not None)


def _wide(teachers: Sequence[str]) -> Callable[[Row], list[Response]]:
    return lambda row: [Response(name, _text(row.get(name))) for name in teachers]


def _long(teacher: str, response: str) -> Callable[[Row], list[Response]]:
    def responses(row: Row) -> list[Response]:
        name = _text(row.get(teacher))
        if not name:
            raise _Unreadable
        return [Response(name, _text(row.get(response)))]

    return responses


def _convert(
    files: Sequence[str], read: _Reader, out: Path, scores: Sequence[str], with_answers: bool
) -> Imported:
    """Write everything under a temporary name first."""
    if out.exists():
        raise ConfigError(f"{out} is there already: choose another folder, or remove it.")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        tables = Tables(part, scores, with_answers)
        for file in files:
            for number, row in rows_of(file):
                _take(tables, read, row, f"{file}, row {number}")
        imported = tables.close()
        if not imported.num_responses:
            raise DataError(
                f"{files[0]} holds no response in the columns {columns_of(files[0])}: was it "
                "taken as published? `persyn import-parallel` takes other columns by name."
            )
        part.chmod(0o755)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return imported


def _take(tables: Tables, read: _Reader, row: Row | BadRow, where: str) -> None:
    try:
        if isinstance(row, BadRow):
            raise _Unreadable
        tables.add(read(row))
    except _Unreadable:
        tables.imported.num_unreadable += 1
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _is_zoo_response(cell: Any) -> bool:
    return isinstance(cell, dict) and "content" in cell


def _column(given: str | None, usual: Sequence[str], columns: Sequence[str], option: str) -> str:
    found = [name for name in usual if name in columns] if given is None else [given]
    if len(found) != 1 or found[0] not in columns:
        what = f"none of {list(usual)}" if not found else f"{found} to choose from"
        if given is not None:
            what = f"no column {given!r}"
        raise ConfigError(f"The table has {what}; its columns are {columns}. Set {option}.")
    return found[0]


def _require(needed: Sequence[str], files: Sequence[str], why: str) -> None:
    for file in files:
        absent = [name for name in needed if name not in columns_of(file)]
        if absent:
            raise ConfigError(f"{file} has no column {absent}: {why}.")


def _prompt(row: Row, column: str) -> str:
    prompt = _text(row.get(column))
    if prompt is None or not prompt.strip():
        raise _Unreadable
    return prompt


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"a text is expected, found {type(value).__name__} {str(value)[:80]!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Unreadable from error
    return value


def _answer(row: Row, column: str | None) -> str | None:
    """An answer as text; numbers are common."""
    value = None if column is None else row.get(column)
    return str(value) if isinstance(value, int | float) else _text(value)


def _score(cell: dict[str, Any], name: str) -> float | None:
    value = cell.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise DataError(f"a score {name} is expected to be a number, found {value!r:.80}")
    return float(value) if math.isfinite(value) else None
