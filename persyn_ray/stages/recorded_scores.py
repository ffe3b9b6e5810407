"""Scores that stand beside recorded responses: a quality for which no model is run.

A score is found by the texts of the prompt (its last user message, see `cells.text_key`) and of the
response as the student sees it, because that is what was scored: a teacher that has answered anew,
or another file of the same name, gets no score that belongs to other words. Equal responses have
equal scores: the mean where a table gives them several. What the table does not hold, or holds as
no number, is unknown; such rows are counted in a warning.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from statistics import fmean
from typing import Any

from persyn_ray.checks.verifier import Verdict
from persyn_ray.data.cells import text_key
from persyn_ray.data.conversations import NoConversation, answer_of, prompt_key
from persyn_ray.data.files.rows import BadRow, Notes, expand, rows_with
from persyn_ray.data.response_text import student_text
from persyn_ray.engines.base import last_user_text
from persyn_ray.errors import DataError
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import RecordedScoresConfig
from persyn_ray.stages.judge import Graded, Row

logger = logging.getLogger(__name__)

COLUMNS = "score_column, prompt_column or response_column of scoring.quality"
NOT_RECORDED = "not_recorded"  # outcome of a response whose score the table does not hold


class RecordedScores:
    """The scores of a table, read as a whole: about 250 bytes a response.

    Raises:
        ConfigError: a file or a column is not there.
        DataError: a file is damaged, or the column holds no number at all.
    """

    def __init__(self, how: RecordedScoresConfig, section: ResponsesConfig | None = None) -> None:
        self._how, self._section = how, section
        self._scores: dict[bytes, list[float]] = {}
        notes = Notes()
        for file, number, row in rows_with(
            expand(how.path, "scoring.quality.path"), self._columns, COLUMNS
        ):
            where = f"{file}, row {number}"
            if isinstance(row, BadRow):
                notes.add("rows that cannot be read", f"{where}: {row.detail}")
            else:
                self._add(row, where, notes)
        if notes.counts and not any(self._scores.values()):
            raise DataError(
                f"{how.path} holds no score: {notes}. Set scoring.quality.score_column to a column "
                "of numbers."
            )
        if notes.counts:
            logger.warning("Scores in %s that are unknown: %s.", how.path, notes)

    def __call__(self, rows: Sequence[Row]) -> list[Graded]:
        """Scores of rows with `messages` and `response`, the latter as the student sees it."""
        return [self._graded(row) for row in rows]

    @property
    def _columns(self) -> list[str]:
        return [self._how.prompt_column, self._how.response_column, self._how.score_column]

    def _graded(self, row: Row) -> Graded:
        scores = self._scores.get(_key(text_key(last_user_text(row["messages"])), row["response"]))
        if scores is None:
            return Verdict(NOT_RECORDED, None), "no row has this prompt and this response"
        if not scores:
            return Verdict(NOT_RECORDED, None), f"column {self._how.score_column!r} has no number"
        return Verdict("scored", fmean(scores)), None

    def _add(self, row: Mapping[str, object], where: str, notes: Notes) -> None:
        prompt = prompt_key(row.get(self._how.prompt_column))
        try:
            response = answer_of(row.get(self._how.response_column))
        except NoConversation:
            response = None
        if prompt is None or response is None:
            return
        if self._section is not None:
            response = student_text(response, self._section)
        scores = self._scores.setdefault(_key(prompt, response or ""), [])
        value = row.get(self._how.score_column)
        if value is None:
            return
        score = _number(value)
        if score is None:
            notes.add("rows whose score is no number", f"{where}: {value!r:.80}")
        else:
            scores.append(score)


def _number(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def _key(prompt: str, response: str) -> bytes:
    # Texts may hold half a surrogate pair, which UTF-8 proper cannot.
    text = f"{prompt}\0{response}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()
