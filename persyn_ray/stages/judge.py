"""Judging: a language model reads prompt and response, and its reply holds the grade.

The rubric is filled in one pass, so that what a prompt or a response says is never filled in again.
Only the judge's own reply is read, without its thinking, and there only the last match of the
pattern: a response that says "Score: 10" grades nothing. Where no grade can be read the quality is
unknown, never a guess.
"""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import regex

from persyn_ray.checks.verifier import Verdict
from persyn_ray.data.response_text import Tags, without_thinking
from persyn_ray.engines.base import Conversation, Engine
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.scoring import JudgeConfig
from persyn_ray.stages.generate import Generate
from persyn_ray.storage.ledger import USED_UP, Account
from persyn_ray.storage.schemas import PROMPTS

Row = dict[str, Any]
Graded = tuple[Verdict, str | None]
"""A verdict, and the raw output or the failure behind it."""

PATTERN_SECONDS = 1.0  # for one reply; the replies are as long as a judge likes
DETAIL = 2_000  # characters kept of a reply; the grade stands at its end
UNAVAILABLE = "unavailable"  # outcome of a judge that could not be reached: to be asked again
OVER_BUDGET = "over_budget"  # outcome of a judge whose budget is used up: the same
OPEN = (UNAVAILABLE, OVER_BUDGET)
"""Outcomes of what is not graded yet."""
PLACEHOLDER = re.compile(r"\{(prompt|response|reference|lowest|highest)\}")


class Judging:
    """A judge and its engine, whose weights are loaded by the first rows.

    Args:
        section: how thinking is marked in the judge's reply.
        engine: in place of the one that the recipe names.
        spending: where the tokens of a judge at an endpoint are counted.
    """

    def __init__(
        self,
        how: JudgeConfig,
        section: ResponsesConfig | None = None,
        engine: Engine | None = None,
        spending: Account | None = None,
    ) -> None:
        section = section or ResponsesConfig()  # pyright: ignore[reportCallIssue]
        self.how, self.think_tags = how, section.think_tags
        judge = how.as_teacher()
        # What counts as a loop in a response is no business of the judge's replies.
        rules = section.model_copy(update={"loop_repeats": None})
        self.generate = Generate(judge, TeacherPool((judge.name,)), rules, None, spending)
        if engine is not None:
            self.generate.engine = engine

    def __call__(self, rows: Sequence[Row]) -> list[Graded]:
        """Grades of rows with `prompt_id`, `teacher`, `messages`, `response` and `reference`."""
        asked = [row for row in rows if not self._lacks_reference(row)]
        replies = iter(self.generate(_requests(self.how, asked)).to_pylist() if asked else [])
        return [
            _failed("the rubric shows {reference}, and this prompt has none")
            if self._lacks_reference(row)
            else self._graded(next(replies))
            for row in rows
        ]

    def close(self) -> None:
        """Give back what the engine holds."""
        self.generate.close()

    def _lacks_reference(self, row: Row) -> bool:
        return "{reference}" in self.how.rubric and row["reference"] is None

    def _graded(self, reply: Row) -> Graded:
        """What a row of RESPONSES from the judge says."""
        text, ending = reply["response"], reply["finish_reason"]
        if ending == "unavailable":
            is_over = (reply["error"] or "").startswith(USED_UP)
            return Verdict(OVER_BUDGET if is_over else UNAVAILABLE, None), reply["error"]
        if text is None:
            return _failed(reply["error"] or "no reply is recorded for this rubric")
        # A cut reply has not come to its grade, or shows half of it: "Score: 1" of "Score: 10".
        try:
            grade = grade_of(text, self.how, self.think_tags) if ending == "stop" else None
        except TimeoutError:
            reason = (
                f"the pattern took more than {PATTERN_SECONDS:g} s; see scoring.quality.pattern"
            )
            return Verdict("ungraded", None), f"{reason}: {text[-DETAIL:]}"
        outcome = "ungraded" if grade is None else "scored"
        return Verdict(outcome, grade), text[-DETAIL:]


def grade_of(reply: str, how: JudgeConfig, think_tags: Tags) -> float | None:
    """The grade that a whole reply ends with; None without one, or outside lowest to highest.

    Raises:
        TimeoutError: the pattern goes back and forth in this reply for too long.
    """
    text = without_thinking(reply, think_tags)
    found = None
    for match in regex.finditer(how.pattern, text, timeout=PATTERN_SECONDS, concurrent=True):
        found = match[1]
    try:
        grade = float(found)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):  # no match, an empty group, or no number
        return None
    return grade if how.lowest <= grade <= how.highest else None


def fill(how: JudgeConfig, messages: Conversation, response: str, reference: str | None) -> str:
    """The rubric with prompt, response and bounds in their places; other braces stay."""
    values = {
        "prompt": _plain(messages),
        "response": response,
        "reference": reference or "",
        "lowest": f"{how.lowest:g}",
        "highest": f"{how.highest:g}",
    }
    return PLACEHOLDER.sub(lambda match: values[match[1]], how.rubric)


def _plain(messages: Conversation) -> str:
    """The user's message alone, or a longer conversation with each turn's role before it."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)


def _requests(how: JudgeConfig, rows: Sequence[Row]) -> pa.Table:
    """One prompt for each row; a seeded judge draws by an id that no other row has."""
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": f"{row['prompt_id']}:{row['teacher']}",
                "messages": [
                    {
                        "role": "user",
                        "content": fill(how, row["messages"], row["response"], row["reference"]),
                    }
                ],
                "source": "rubric",
                "split": "",
            }
            for row in rows
        ],
        schema=PROMPTS,
    )


def _failed(reason: str) -> Graded:
    return Verdict("judge_failed", None), reason
