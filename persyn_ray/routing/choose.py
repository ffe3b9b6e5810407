"""Chooses teachers for the scored rows of a table: logits in; a teacher and a margin a row out.

Without limits a prompt goes to the teacher of its highest logit. Within capacities and least shares
all prompts are weighed against one another (`method/constrained`), as a run's own are: by the win
share, or by the predicted reward of a router fitted by regression. Each row counts as a prompt, a
repeated one as well.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError
from persyn_ray.method.allocation import NOBODY, assign, tie_breaks
from persyn_ray.method.constrained.assign import assign_within
from persyn_ray.method.constrained.limits import Constraints, prompts_of_share
from persyn_ray.method.win_share import win_shares
from persyn_ray.recipe.limits import AssignmentConfig

Floats = NDArray[np.float64]
CAPACITY, FLOOR = "--capacity", "--min-share"
NO_LIMITS = AssignmentConfig()  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class Rule:
    """How a table's rows are assigned."""

    teachers: tuple[str, ...]
    """The router's, in its order."""
    masked: tuple[str, ...] = ()
    """Those that get nothing."""
    limits: AssignmentConfig = NO_LIMITS
    seed: int = 0
    """Of the draws among equals."""
    is_reward: bool = False
    """The router's logits are rewards themselves."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.masked if name not in self.teachers]
        if unknown:
            raise ConfigError(f"The router knows no teacher {unknown}; it has {self.teachers}.")
        active = tuple(name for name in self.teachers if name not in self.masked)
        if not active:
            raise ConfigError(f"Every teacher of the router is left out: {self.teachers}.")
        try:
            self.limits.require_teachers(active)
        except ValueError as error:
            raise ConfigError(f"{error}. Set {CAPACITY} or {FLOOR}.") from None

    def values(self, logits_PM: Floats) -> Floats:
        """What is weighed, (P, M): win shares or rewards; NaN for who gets nothing."""
        open_PM = self.open_logits(logits_PM)
        return open_PM if self.is_reward else win_shares(open_PM)

    def open_logits(self, logits_PM: Floats) -> Floats:
        """Logits (P, M) in which who gets nothing is no candidate (NaN)."""
        is_masked_M = np.array([name in self.masked for name in self.teachers])
        return np.where(is_masked_M[None, :], np.nan, logits_PM)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A teacher a row, and how far it is ahead of the best other one."""

    teacher_P: NDArray[np.int64]
    """Its place among the router's; -1 for nobody."""
    margin_P: Floats
    """In logits; below 0 where a limit has moved the row. NaN without a second candidate."""

    def part(self, start: int, stop: int) -> "Chosen":
        """Those of rows start to stop."""
        return Chosen(self.teacher_P[start:stop], self.margin_P[start:stop])


def choose(rule: Rule, prompt_ids: Sequence[str], logits_PM: Floats) -> Chosen:
    """Teachers of rows, each by itself; rows with NaN logits get nobody."""
    breaks_PM = tie_breaks(prompt_ids, rule.teachers, rule.seed)
    open_PM = rule.open_logits(logits_PM)
    teacher_P, margin_P = assign(open_PM, breaks_PM)
    return Chosen(teacher_P, margin_P)


def choose_within(rule: Rule, prompt_ids: Sequence[str], logits_PM: Floats) -> Chosen:
    """Teachers of all rows of a table at once, within the limits.

    Raises:
        ConfigError: the limits cannot be kept; the message says which.
    """
    values_PM = rule.values(logits_PM)
    breaks_PM = tie_breaks(prompt_ids, rule.teachers, rule.seed)
    found = assign_within(values_PM, _constraints(rule, values_PM), breaks_PM)
    return Chosen(found.teacher_P, _margins(rule.open_logits(logits_PM), found.teacher_P))


def _constraints(rule: Rule, values_PM: Floats) -> Constraints:
    able_PM = ~np.isnan(values_PM)
    floor_M = None
    if rule.limits.min_share is not None:
        least_M = np.where(able_PM.any(axis=0), rule.limits.min_share, 0.0)
        floor_M = prompts_of_share(least_M, int(able_PM.any(axis=1).sum()), FLOOR)
    capacity_M = np.array([rule.limits.capacity.get(name, np.inf) for name in rule.teachers])
    return Constraints(rule.teachers, (), capacity_M, floor_M, CAPACITY, FLOOR)


def _margins(open_PM: Floats, teacher_P: NDArray[np.int64]) -> Floats:
    """The chosen teacher's logit minus the best other one's."""
    chosen_P1 = np.maximum(teacher_P, 0)[:, None]
    own_P = np.take_along_axis(open_PM, chosen_P1, axis=1)[:, 0]
    others_PM = np.where(np.isnan(open_PM), -np.inf, open_PM)
    np.put_along_axis(others_PM, chosen_P1, -np.inf, axis=1)
    best_P = others_PM.max(axis=1)
    is_known_P = (teacher_P != NOBODY) & np.isfinite(best_P)
    return np.where(is_known_P, own_P - np.where(is_known_P, best_P, 0.0), np.nan)
