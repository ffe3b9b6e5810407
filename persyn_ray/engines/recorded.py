"""Answers read from a table of parallel responses: a teacher that has spoken already.

A response is found by the text of the prompt (the last user message, stripped), never by position.
A prompt without one gives finish reason `missing`. The tables hold no token counts and none are
invented: `num_tokens` is 0, and accounting goes by the student's tokens.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from persyn_ray.engines.base import Completion, FinishReason, Request, last_user_text
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.sources import BadRow, columns_of, expand, rows_of

logger = logging.getLogger(__name__)


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
        """Refuse a table without the columns or the teacher; answers are not read."""
        for file in self._files:
            self._require_columns(file)
        teachers: set[str] = set()
        for file in self._files:
            for _, row in rows_of(file, [self._teacher_column]):
                if not isinstance(row, BadRow):
                    teachers.add(str(row.get(self._teacher_column)))
                if self._teacher in teachers:
                    return
        self._require_teacher(teachers)

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused; an answer that was never recorded is counted as `missing`."""
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The recorded answers.

        Raises:
            ConfigError: a column is missing, or the table has no such teacher.
            DataError: a row of the table cannot be read.
        """
        recorded = self._recorded
        missing = Completion(None, "missing", 0, 0)
        return [recorded.get(last_user_text(item.messages).strip(), missing) for item in requests]

    def close(self) -> None:
        """Forget the table; it is read again when needed."""
        self.__dict__.pop("_recorded", None)

    @cached_property
    def _recorded(self) -> dict[str, Completion]:
        found: dict[str, Completion] = {}
        teachers: set[str] = set()
        num_contradictions = 0
        for file in self._files:
            self._require_columns(file)
            for number, row in rows_of(file, self._columns):
                if isinstance(row, BadRow):
                    raise DataError(f"{file}, row {number}: {row.detail}.")
                teachers.add(str(row.get(self._teacher_column)))
                prompt = row.get(self._prompt)
                if row.get(self._teacher_column) != self._teacher or not isinstance(prompt, str):
                    continue
                completion = self._completion(row, f"{file}, row {number}")
                first = found.setdefault(prompt.strip(), completion)
                num_contradictions += first != completion
        self._require_teacher(teachers)
        if num_contradictions:
            logger.warning(
                "%s: %d further answers of %s to prompts that have one already; the first counts.",
                self._path,
                num_contradictions,
                self._teacher,
            )
        return found

    def _completion(self, row: dict[str, object], where: str) -> Completion:
        text = row.get(self._response)
        if text is None:
            return Completion(None, "missing", 0, 0)
        if not isinstance(text, str):
            raise DataError(f"{where}: {self._response!r} holds no text but {type(text).__name__}.")
        return Completion(text, self._finish_reason(row, where), 0, 0)

    def _finish_reason(self, row: dict[str, object], where: str) -> FinishReason:
        given = "stop" if self._finish is None else row.get(self._finish)
        if given == "stop":
            return "stop"
        if given == "length":
            return "length"
        raise DataError(f"{where}: {self._finish!r} is {given!r}; it must be stop or length.")

    def _require_teacher(self, teachers: set[str]) -> None:
        if self._teacher not in teachers:
            raise ConfigError(
                f"{self._path} has no teacher {self._teacher!r} in column "
                f"{self._teacher_column!r}; it has {sorted(teachers)[:50]}. "
                "Set `teacher` of the engine to one of these."
            )

    def _require_columns(self, file: str) -> None:
        present = columns_of(file)
        absent = [column for column in self._columns if column not in present]
        if absent:
            raise ConfigError(
                f"{file} has no column {absent}; it has {present}. Set `prompt_column`, "
                "`teacher_column`, `response_column` or `finish_reason_column` of the engine."
            )
