"""Limits on PerSyn's assignment as the page and the summary show them: what was allowed and used.

Whether limits cost anything is read off the values: an assignment within limits that bind is worth
less than the one without any. Values are sums of predicted rewards, so they are shown in parts of
one another.
"""

from dataclasses import dataclass

from persyn_ray.report.content import LimitsSummary, Report
from persyn_ray.report.numbers import compact, number, percent

NEAR = 0.01
"""In parts of a limit: this near to it, a limit counts as used up."""
SAME = 1e-9
"""In parts of a value: sums that differ by less differ by rounding."""
TINY = 0.0005
"""A share that one decimal of a percent would show as nothing."""
LABELS = {
    "max_tokens": "tokens",
    "max_dollars": "dollars",
    "max_gpu_seconds": "GPU-seconds",
    "min_share": "least share of a teacher",
}


@dataclass(frozen=True)
class LimitRow:
    """One limit and what the assignment uses of it."""

    name: str
    limit: float | None
    used: float | None

    @property
    def is_tight(self) -> bool:
        """Whether the limit is used up; so it is for the least of something too."""
        if self.limit is None or self.used is None:
            return False
        return abs(self.used - self.limit) <= NEAR * abs(self.limit)


def limit_rows(constraints: LimitsSummary) -> list[LimitRow]:
    """Every limit with its use, in the order of the recipe."""
    names = dict.fromkeys([*constraints["limits"], *constraints["used"]])
    return [
        LimitRow(limit_label(name), constraints["limits"].get(name), constraints["used"].get(name))
        for name in names
    ]


def limit_label(name: str) -> str:
    """A limit by what it limits: assignment.max_gpu_seconds is GPU-seconds."""
    bare = name.removeprefix("assignment.")
    return LABELS.get(bare, bare)


def quantity(value: float | None) -> str:
    """An amount: shares and cents with their decimals, large ones in three figures."""
    if value is None or abs(value) >= 1000:
        return compact(value)
    return number(value, 0 if value == round(value) else 3 if abs(value) < 1 else 2)


def lost_share(constraints: LimitsSummary) -> float | None:
    """What the limits cost, in parts of the value without any; 0 where none binds."""
    value, most = constraints["value"], constraints["unconstrained_value"]
    return None if value is None or not most else max(0.0, most - value) / abs(most)


def gap_share(constraints: LimitsSummary) -> float | None:
    """The most that any assignment within the limits could gain, in parts of its bound."""
    gap, bound = constraints["gap"], constraints["bound"]
    return None if gap is None or not bound else gap / abs(bound)


def binds(constraints: LimitsSummary) -> bool:
    """Whether the limits changed what PerSyn would have chosen."""
    return (lost_share(constraints) or 0.0) > SAME


def chosen_cost(constraints: LimitsSummary, unit: str | None) -> float | None:
    """What the assignment uses in the unit of a front; None where no limit is in that unit."""
    used = {_bare(limit_label(name)): value for name, value in constraints["used"].items()}
    return used.get(_bare(unit or ""))


def _bare(text: str) -> str:
    return text.lower().replace("-", " ").replace("_", " ")


def limit_sentences(report: Report) -> list[str]:
    """What the limits cost, where they bind."""
    constraints = report["constraints"]
    if constraints is None or not binds(constraints):
        return []
    tight = [
        f"{row.name} {quantity(row.used)} of {quantity(row.limit)}"
        for row in limit_rows(constraints)
        if row.is_tight
    ]
    which = f" ({', '.join(tight)})" if tight else ""
    lost, gap = share(lost_share(constraints)), gap_share(constraints)
    bound = "" if gap is not None and 0 < gap < TINY else "at most "
    proof = f"; any other within them gains {bound}{share(gap)}" if gap else ""
    return [
        f"The limits on PerSyn's assignment bind{which}: its summed predicted reward is {lost} "
        f"below that without limits{proof}."
    ]


def share(value: float | None) -> str:
    """A share in percent, where a tiny one is not written as nothing."""
    return f"less than {percent(0.001)}" if value and 0 < value < TINY else percent(value)
