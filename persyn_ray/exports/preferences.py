"""Preference pairs: the parallel set's responses in, the best against the worst of a prompt out.

best = the greatest reward, worst = the least, margin = their difference (Eq. 2, so on the scale of
`scoring.scaling`). Among equals the row's id decides, which is a hash, and never the order of
teachers. A prompt with fewer than two known rewards makes no pair, nor one whose best is no better
than its worst or says the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from persyn_ray.exports.form import Message, RoutedRow, Rows, records

TOO_FEW = "prompts with fewer than two responses that have a reward"
NO_BETTER = "prompts whose best response is no better than the worst, or says the same"


@dataclass(frozen=True)
class Pair:
    """One prompt with two responses."""

    id: str
    """The prompt's."""
    prompt: list[Message]
    chosen: Message
    rejected: Message
    chosen_teacher: str
    rejected_teacher: str
    chosen_reward: float
    rejected_reward: float

    @property
    def margin(self) -> float:
        """By how much the chosen response is worth more."""
        return self.chosen_reward - self.rejected_reward


@dataclass
class Pairs:
    """Iterates over the pairs of a run, and counts the prompts that make none."""

    rows: Rows
    left_out: dict[str, int] = field(default_factory=dict[str, int])

    def __iter__(self) -> Iterator[Pair]:
        self.left_out |= {TOO_FEW: 0, NO_BETTER: 0}
        for _, group in groupby(records(self.rows, "parallel"), key=lambda row: row["prompt_id"]):
            rated = [(reward, row) for row in group if (reward := row["reward"]) is not None]
            if len(rated) < 2:
                self.left_out[TOO_FEW] += 1
            elif (pair := _pair(rated)) is None:
                self.left_out[NO_BETTER] += 1
            else:
                yield pair


def _pair(rated: list[tuple[float, RoutedRow]]) -> Pair | None:
    best_reward, best = min(rated, key=lambda one: (-one[0], one[1]["id"]))
    worst_reward, worst = min(rated, key=lambda one: (one[0], one[1]["id"]))
    chosen, rejected = best["messages"][-1], worst["messages"][-1]
    if best_reward <= worst_reward or chosen == rejected:
        return None
    return Pair(
        id=best["prompt_id"],
        prompt=best["messages"][:-1],
        chosen=chosen,
        rejected=rejected,
        chosen_teacher=best["teacher"],
        rejected_teacher=worst["teacher"],
        chosen_reward=best_reward,
        rejected_reward=worst_reward,
    )
