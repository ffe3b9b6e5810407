"""Prompts for on-policy distillation: rows of a run in, those whose teacher can score them out.

Rows of other teachers are counted by the reason, or refused where the user says so. A teacher
without rows (a retired one, say) is neither loaded nor named.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from persyn_ray.errors import ConfigError
from persyn_ray.exports.form import Facts, RoutedRow, Rows, records
from persyn_ray.exports.on_policy.teachers import (
    ReadModel,
    ScoringTeacher,
    model_of,
    why_not,
)
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.provenance import Split

NOTHING = (
    "No prompt of the run has a teacher, so there is nothing to distil. `persyn report` says what "
    "became of its prompts."
)
Why = Callable[[TeacherConfig, ReadModel | None, ReadModel], str | None]
"""Why rows of a teacher with this model, for this student, have to be left out."""


@dataclass(frozen=True)
class RoutedPrompts:
    """Rows of a split whose teachers can score them; read anew each time."""

    rows: Rows
    split: Split
    student: ReadModel
    teachers: tuple[ScoringTeacher, ...]
    """In the pool's order; each has rows."""
    left_out: Mapping[str, int]
    """Rows of other teachers, by the reason."""

    def __iter__(self) -> Iterator[RoutedRow]:
        names = {teacher.name for teacher in self.teachers}
        return (row for row in records(self.rows, self.split) if row["teacher"] in names)

    def of(self, teacher: ScoringTeacher) -> Iterator[RoutedRow]:
        """The rows of one teacher."""
        return (row for row in self if row["teacher"] == teacher.name)


def routed_prompts(rows: Rows, split: Split, facts: Facts, why: Why = why_not) -> RoutedPrompts:
    """Rows of the teachers that can score the student's tokens.

    Raises:
        ConfigError: there is no row, no teacher can, or one cannot and such rows are to be refused.
    """
    given = facts.on_policy
    given.require_known([teacher.name for teacher in facts.teachers])
    counts, student = _rows_by_teacher(rows, split), ReadModel(facts.student.model)
    teachers: list[ScoringTeacher] = []
    left_out: dict[str, int] = {}
    for teacher in facts.teachers:
        if counts[teacher.name]:
            model = model_of(teacher, given.models)
            reason = why(teacher, model, student)
            if reason is None and model is not None:
                teachers.append(ScoringTeacher(teacher, model, given.urls.get(teacher.name)))
            else:
                left_out[str(reason)] = counts[teacher.name]
    if not counts:
        raise ConfigError(NOTHING)
    if left_out and (given.other_tokenizers == "refuse" or not teachers):
        raise ConfigError(_refusal(left_out, bool(teachers)))
    return RoutedPrompts(rows, split, student, tuple(teachers), left_out)


def _rows_by_teacher(rows: Rows, split: Split) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in rows.batches(split):
        counts.update(batch.column("teacher").to_pylist())
    return counts


def _refusal(left_out: Mapping[str, int], has_others: bool) -> str:
    lines = [f"  {num:,} rows: {reason}" for reason, num in left_out.items()]
    advice = (
        "--other-tokenizers leave-out writes the others."
        if has_others
        else "No row is left: on-policy distillation scores the student's tokens. SFT forms such "
        "as trl take any teacher, and trl-gold crosses tokenizers."
    )
    return "\n".join(["Rows whose teacher cannot score the student's tokens:", *lines, advice])
