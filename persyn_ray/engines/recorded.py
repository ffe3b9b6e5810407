"""Engine that reads responses from a recorded table instead of generating them.

A response is found by the text of the prompt (the last user message, see `cells.text_key`), never
by position. A prompt without one gives finish reason `missing`. Rows that cannot be used are left
out and counted in a warning; one that has a prompt and no usable response is that prompt's error.
The tables hold no token counts and none are invented: `num_tokens` is 0, and accounting goes by the
student's tokens.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from persyn_ray.credentials import cut_secrets
from persyn_ray.data.cells import label_of, text_key
from persyn_ray.data.conversations import NoConversation, answer_of, prompt_key
from persyn_ray.data.files.rows import BadRow, Notes, Row, expand, rows_with
from persyn_ray.engines.base import Completion, Request, last_user_text
from persyn_ray.engines.openai.finish_reasons import read_ending
from persyn_ray.errors import ConfigError

logger = logging.getLogger(__name__)

WITHHELD = ("filtered", "called", "interrupted")
"""Endings of a response that is no answer, whatever stands in its place."""
COLUMNS = (
    "`prompt_column`, `teacher_column`, `response_column` or `finish_reason_column` of the engine"
)
MOST_NAMES = 50  # teachers that an error lists


class RecordedEngine:
    """The recorded responses of one teacher, read at the first `generate`."""

    overlaps: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        teacher: str,
        prompt_column: str = "question",
        teacher_column: str = "teacher",
        response_column: str = "response",
        finish_reason_column: str | None = None,
    ) -> None:
        self._files = expand(path, "the teacher's engine.path")
        self._path, self._teacher = path, teacher
        self._prompt, self._response = prompt_column, response_column
        self._teacher_column, self._finish = teacher_column, finish_reason_column
        wanted = (prompt_column, teacher_column, response_column, finish_reason_column)
        self._columns = [column for column in wanted if column is not None]

    def check(self) -> None:
        """Refuse a table without the columns or the teacher, or one that is damaged.

        The table is read as it is for answers: what passes here will not fail there.
        """
        try:
            self._recorded  # noqa: B018
        finally:
            self.close()

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused; an answer that was never recorded is counted as `missing`."""
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The recorded answers.

        Raises:
            ConfigError: a column is missing, or the table has no such teacher.
            DataError: a file of the table is damaged as a whole.
        """
        recorded = self._recorded
        keys = [text_key(last_user_text(item.messages)) for item in requests]
        return [recorded.get(key) or self._not_there(key) for key in keys]

    def _not_there(self, key: str) -> Completion:
        return _missing(
            f"{self._path}, teacher {self._teacher!r}: no row has this prompt in column "
            f"{self._prompt!r}, as it is asked (with prompts.template): {key!r:.200}"
        )

    def close(self) -> None:
        """Forget the table; it is read again when needed."""
        self.__dict__.pop("_recorded", None)

    @cached_property
    def _recorded(self) -> dict[str, Completion]:
        found: dict[str, Completion] = {}
        teachers: dict[str, None] = {}
        notes = Notes()
        for file, number, row in rows_with(self._files, self._columns, COLUMNS):
            where = f"{file}, row {number}"
            if isinstance(row, BadRow):
                notes.add("rows that cannot be read", f"{where}: {row.detail}")
                continue
            name = label_of(row.get(self._teacher_column))
            if name is None:
                notes.add("rows without a teacher", where)
                continue
            teachers[name[:80]] = None
            if name == self._teacher.strip():
                self._take(found, row, where, notes)
        self._require_teacher(teachers, notes)
        if notes.counts:
            logger.warning("Answers of %s in %s: %s.", self._teacher, self._path, notes)
        return found

    def _take(self, found: dict[str, Completion], row: Row, where: str, notes: Notes) -> None:
        key = prompt_key(row.get(self._prompt))
        if key is None:
            notes.add("rows without a prompt", where)
            return
        completion = self._completion(row, where, notes)
        first = found.get(key)
        if first is None or first.text is None:
            found[key] = completion
        elif completion.text is not None and completion != first:
            notes.add("further answers to prompts that have one already", where)

    def _completion(self, row: Row, where: str, notes: Notes) -> Completion:
        try:
            text = answer_of(row.get(self._response))
        except NoConversation as why:
            return Completion.failed(f"{where}, column {self._response!r}: {why.args[1]}")
        if text is None:
            return _missing(f"{where}: column {self._response!r} is empty")
        word = "stop" if self._finish is None else label_of(row.get(self._finish))
        kind = read_ending(word).kind
        if kind in WITHHELD:
            return Completion.failed(f"{where}: {self._finish!r} is {word!r}")
        if kind == "unknown":
            what = "empty" if word is None else repr(word[:80])
            notes.add(f"rows whose {self._finish!r} is {what}, taken as complete", where)
        return Completion(text, kind if kind in ("length", "loop") else "stop", 0, 0)

    def _require_teacher(self, teachers: dict[str, None], notes: Notes) -> None:
        if self._teacher.strip()[:80] not in teachers:
            more = f" It also has {notes}." if notes.counts else ""
            raise ConfigError(
                f"{self._path} has no teacher {self._teacher!r} in column "
                f"{self._teacher_column!r}; it has {sorted(teachers)[:MOST_NAMES]}.{more} "
                "Set `teacher` of the engine to one of these."
            )


def _missing(why: str) -> Completion:
    return Completion(None, "missing", 0, 0, cut_secrets(why))
