"""Is an answer right? Each route is compared with what the router itself says, in one process.

A route is right when its scores are those of its prompt under the router version that the answer
names, and its teacher is the best by them. A fallback names no scores; it is counted apart.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOLERANCE = 1e-3
"""Of a logit. Rows of a batch differ in the last bits from rows alone."""


@dataclass
class Workload:
    """Prompts with the scores of each router, as `preparing.py` has written them."""

    prompts: list[str]
    tokens: list[int]
    teachers: list[str]
    routers: dict[str, str]
    """Folders by name."""
    scores: dict[str, list[list[float]]]
    """By version: one row a prompt, one number a teacher."""

    @classmethod
    def load(cls, path: Path) -> "Workload":
        """Read a file that `preparing.py` has written."""
        return cls(**json.loads(path.read_text()))


@dataclass
class Judge:
    """Counts what answers were worth."""

    workload: Workload
    counts: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    largest_gap: float = 0.0
    examples: list[str] = field(default_factory=list)
    """The first wrong answers."""

    def __call__(self, places: Sequence[int], body: bytes) -> int:
        """Judge an answer to the prompts at these places; returns the number of right routes."""
        try:
            answer = json.loads(body)
            version, routes = answer["router"]["version"], answer["routes"]
            scores_PM = self.workload.scores[version]
        except (ValueError, KeyError, TypeError) as error:
            return self._wrong(len(places), f"{type(error).__name__} {error}: {body[:200]!r}")
        if len(routes) != len(places):
            return self._wrong(len(places), f"{len(routes)} routes for {len(places)} prompts")
        self.versions[version] += len(routes)
        pairs = zip(places, routes, strict=True)
        return sum(self._one(scores_PM[place], route) for place, route in pairs)

    def _one(self, expected_M: Sequence[float], route: dict[str, Any]) -> int:
        teachers = self.workload.teachers
        if route.get("fallback"):
            kind = "fallback" if route["teacher"] in teachers else "wrong"
            self.counts[kind] += 1
            return 0
        scores = route["scores"]
        gap = max(
            abs(scores.get(name, float("inf")) - value)
            for name, value in zip(teachers, expected_M, strict=True)
        )
        self.largest_gap = max(self.largest_gap, gap)
        behind = max(expected_M) - expected_M[teachers.index(route["teacher"])]
        if gap > TOLERANCE or behind > 2 * TOLERANCE:
            return self._wrong(1, f"{route} where the router says {list(expected_M)}")
        self.counts["right"] += 1
        return 1

    def _wrong(self, num: int, why: str) -> int:
        self.counts["wrong"] += num
        if len(self.examples) < 5:
            self.examples.append(why[:500])
        return 0

    def summary(self) -> dict[str, Any]:
        """What was counted."""
        return {
            **{kind: self.counts[kind] for kind in ("right", "wrong", "fallback")},
            "versions": dict(self.versions),
            "largest_gap_of_a_logit": self.largest_gap,
            "first_wrong": self.examples,
        }
