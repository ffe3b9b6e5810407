"""Examples from files of one's own: a section of `dataset.extra` in, prompts with responses out.

A row that is no example (no prompt, no response, malformed messages) is counted with the first
reason; of prompts that read the same the first row counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from persyn_ray.data.cells import text_of
from persyn_ray.data.conversations import NoConversation, answer_of
from persyn_ray.data.files.rows import BadRow, Row, expand, rows_with
from persyn_ray.data.prompt_rows import prompt_of
from persyn_ray.data.response_text import is_blank, valid_unicode
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.data import ExtraDataConfig, PromptsConfig
from persyn_ray.storage.schemas import EXAMPLES

LOOKED_AT = 1000
COLUMNS = "prompt_column or response_column of dataset.extra"


@dataclass(frozen=True)
class ExtraExamples:
    """The examples of a data set, and rows that are none."""

    table: pa.Table
    """Of the schema EXAMPLES."""
    num_unreadable: int = 0
    first_unreadable: str | None = None
    num_duplicates: int = 0


def teacher_label(section: ExtraDataConfig) -> str:
    """What stands in place of a teacher in the examples of a data set."""
    return f"extra:{section.name}"


def require_readable(section: ExtraDataConfig) -> None:
    """Look at the files' headers and first rows, before teachers are paid.

    Raises:
        ConfigError: a file or a column is not there, or none of the rows is an example.
        DataError: a file is damaged.
    """
    why = "it holds no rows"
    for file, number, row in islice(_rows(section), LOOKED_AT):
        try:
            _example(section, row)
            return
        except NoConversation as refusal:
            why = f"{file.rsplit('/', 1)[-1]}, row {number}: {refusal.args[1]}"
    raise ConfigError(
        f"No example in {section.path!r} (dataset.extra {section.name}): {why}. See its "
        "prompt_column and response_column."
    )


def read_extra(section: ExtraDataConfig) -> ExtraExamples:
    """All examples of a data set.

    Raises:
        ConfigError: a file or a column is not there.
        DataError: a file is damaged.
    """
    found: dict[str, Row] = {}
    num_rows, reasons = 0, list[str]()
    for file, number, row in _rows(section):
        try:
            example = _example(section, row)
        except NoConversation as refusal:
            reasons.append(f"{file.rsplit('/', 1)[-1]}, row {number}: {refusal.args[1]}")
            continue
        num_rows += 1
        found.setdefault(example["prompt_id"], example)
    return ExtraExamples(
        pa.Table.from_pylist(list(found.values()), schema=EXAMPLES),
        len(reasons),
        reasons[0] if reasons else None,
        num_rows - len(found),
    )


def _rows(section: ExtraDataConfig) -> Iterator[tuple[str, int, Row | BadRow]]:
    needed = [name for name in (section.prompt_column, section.response_column) if name is not None]
    return rows_with(expand(section.path, "dataset.extra.path"), needed, COLUMNS)


def _example(section: ExtraDataConfig, row: Row | BadRow) -> Row:
    """A row as an example.

    Raises:
        NoConversation: it is none; says why.
    """
    as_prompt = PromptsConfig(path=section.path, column=section.prompt_column)  # pyright: ignore
    prompt = prompt_of(as_prompt, row, require_reference=False)
    assert not isinstance(row, BadRow), "prompt_of refuses bad rows"
    column = section.response_column or section.prompt_column
    response = answer_of(row.get(column)) if section.response_column is None else _said(row, column)
    if response is None or is_blank(response):
        raise NoConversation("no_text", f"column {column!r} holds no response")
    turn = {"role": "assistant", "content": valid_unicode(response)}
    return {
        "prompt_id": prompt["prompt_id"],
        "teacher": teacher_label(section),
        "messages": [*prompt["messages"], turn],
    }


def _said(row: Row, column: str) -> str | None:
    value = row.get(column)
    return answer_of(value) if isinstance(value, list | dict) else text_of(value)
