"""Scores that stand beside recorded responses: a quality for which no model is run.

A score is found by the texts of the prompt (its last user message, stripped) and of the response as
the student sees it, because that is what was scored: a teacher that has answered anew, or another
file of the same name, gets no score that belongs to other words. Equal responses have equal scores:
the mean where a table gives them several. What the table does not hold is unknown.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from statistics import fmean
from typing import Any

from persyn_ray.config import Responses
from persyn_ray.engines.base import last_user_text
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.scoring import Recorded
from persyn_ray.sources import BadRow, columns_of, expand, rows_of
from persyn_ray.stages.judging import Graded, Row
from persyn_ray.texts import student_text
from persyn_ray.verify import Verdict

NOT_RECORDED = "not_recorded"  # outcome of a response whose score the table does not hold


class RecordedScores:
    """The scores of a table, read as a whole: about 250 bytes a response.

    Raises:
        ConfigError: a file or a column is not there.
        DataError: a row cannot be read, or a score is no number.
    """

    def __init__(self, how: Recorded, section: Responses | None = None) -> None:
        self._how, self._section = how, section
        self._scores: dict[bytes, list[float]] = {}
        for file in expand(how.path, "scoring.quality.path"):
            self._require_columns(file)
            for number, row in rows_of(file, self._columns):
                if isinstance(row, BadRow):
                    raise DataError(f"{file}, row {number}: {row.detail}.")
                self._add(row, f"{file}, row {number}")

    def __call__(self, rows: Sequence[Row]) -> list[Graded]:
        """Scores of rows with `messages` and `response`, the latter as the student sees it."""
        return [self._graded(row) for row in rows]

    @property
    def _columns(self) -> list[str]:
        return [self._how.prompt_column, self._how.response_column, self._how.score_column]

    def _graded(self, row: Row) -> Graded:
        scores = self._scores.get(_key(last_user_text(row["messages"]), row["response"]))
        if scores is None:
            return Verdict(NOT_RECORDED, None), "no row has this prompt and this response"
        if not scores:
            return Verdict(NOT_RECORDED, None), f"column {self._how.score_column!r} is empty"
        return Verdict("scored", fmean(scores)), None

    def _add(self, row: dict[str, Any], where: str) -> None:
        prompt, response = row.get(self._how.prompt_column), row.get(self._how.response_column)
        if not isinstance(prompt, str) or not isinstance(response, str):
            return
        if self._section is not None:
            response = student_text(response, self._section)
        scores = self._scores.setdefault(_key(prompt, response or ""), [])
        score = self._number(row.get(self._how.score_column), where)
        if score is not None:
            scores.append(score)

    def _number(self, value: Any, where: str) -> float | None:
        if value is None or value == "":  # csv has no other way to say nothing
            return None
        try:
            score = float(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}: column {self._how.score_column!r} holds no number but {value!r:.80}. "
                "Set scoring.quality.score_column to a column of scores."
            ) from error
        return score if math.isfinite(score) else None

    def _require_columns(self, file: str) -> None:
        present = columns_of(file)
        absent = [column for column in self._columns if column not in present]
        if absent:
            raise ConfigError(
                f"{file} has no column {absent}; it has {present}. Set score_column, "
                "prompt_column or response_column of scoring.quality."
            )


def _key(prompt: str, response: str) -> bytes:
    # Texts may hold half a surrogate pair, which UTF-8 proper cannot.
    text = f"{prompt.strip()}\0{response}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()
