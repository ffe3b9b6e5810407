"""Carries an import out: rows and what reads one in; the files that recipes read out, all or none.

A response that a table lacks is left out, never filled in; what cannot be read is counted with the
first of it, and the rest goes on.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persyn_ray.data.cells import text_key, text_of
from persyn_ray.data.conversations import NoConversation, answer_of, messages_of
from persyn_ray.data.files.rows import BadRow, Row
from persyn_ray.data.importers.writing import Entry, Imported, Response, Tables
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.storage.atomic_files import writing_to


class Unreadable(Exception):
    """A row or a response that cannot be used, and why."""


Reader = Callable[[Row], Entry]


def convert(
    rows: Iterable[tuple[str, int, Row | BadRow]],
    read: Reader,
    out: Path,
    scores: Sequence[str],
    with_answers: bool,
    where: str,
) -> Imported:
    """Write everything under a temporary name first."""
    if out.exists():
        raise ConfigError(f"{out} is there already: choose another folder, or remove it.")
    with writing_to(out), _beside(out) as part:
        tables = Tables(part, scores, with_answers)
        for file, number, row in rows:
            _take(tables, read, row, f"{file}, row {number}")
        imported = tables.close()
        _require_responses(imported, where)
        part.chmod(0o755)
        part.rename(out)
    return imported


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder under a temporary name, which is removed unless it is renamed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}-", dir=out.parent))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _require_responses(imported: Imported, where: str) -> None:
    if not imported.num_responses:
        first = imported.first_unreadable
        more = f" Of {imported.num_unreadable:,} left out the first is {first}." if first else ""
        raise DataError(
            f"{where} holds no response.{more} Was it taken as published? `persyn "
            "import-parallel` takes other columns by name."
        )


def _take(tables: Tables, read: Reader, row: Row | BadRow, where: str) -> None:
    try:
        if isinstance(row, BadRow):
            raise Unreadable(row.detail)
        entry = read(row)
    except Unreadable as why:
        tables.imported.leave_out(f"{where}: {why}")
        return
    tables.add(entry)
    for fault in entry.faults:
        tables.imported.leave_out(f"{where}: {fault}")


def respond(entry: Entry, teacher: str, cell: Any, scores: tuple[Any, ...] = ()) -> None:
    """Add a cell's response to an entry, or why it is none."""
    try:
        entry.responses.append(Response(teacher, unicode_text(answer_of(cell)), scores))
    except (Unreadable, NoConversation) as why:
        entry.faults.append(f"response of {teacher}: {why.args[-1]}")


def prompt_text(cell: Any, where: str, skip_system: bool = False) -> str:
    """The text of a prompt; a conversation is one only if its user alone speaks, and once.

    Args:
        where: the cell's place, in messages.
        skip_system: a system message before the user's is left out.

    Raises:
        Unreadable: it is none.
    """
    try:
        messages = messages_of(cell)
    except NoConversation as error:
        raise Unreadable(error.args[1]) from error
    if skip_system and messages is not None and messages[0]["role"] == "system":
        messages = messages[1:]
    if messages is not None and len(messages) > 1:
        raise Unreadable(f"{where} holds a conversation of {len(messages)} messages")
    prompt = unicode_text(text_of(cell) if messages is None else messages[0]["content"])
    if prompt is None or not text_key(prompt):
        raise Unreadable(f"{where} is empty")
    return prompt


def unicode_text(text: str | None) -> str | None:
    """The text itself. Raises Unreadable where it cannot be written as UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise Unreadable("a text holds bytes or surrogates that are no UTF-8") from error
    return text
