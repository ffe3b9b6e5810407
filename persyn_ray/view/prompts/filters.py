"""Filters and order of prompts: what an address asks for in, places in the index out."""

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError
from persyn_ray.view.index import CUT, LOOP, SPLITS, Index

FLAGS = ("unsure", "novel", "all_wrong", "disagree", "cut")
SORTS = ("prompt", "margin", "novelty", "best_reward", "spread", "length")
UNSURE_MARGIN = log(0.6 / 0.4)
"""Margin in logits below which the first teacher beats the second in less than 60 of 100."""
Places = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Filters:
    """Which prompts, in which order."""

    search: str = ""
    task: str | None = None
    teacher: str | None = None
    split: str | None = None
    flags: tuple[str, ...] = ()
    sort: str | None = None

    def require_known(self, teachers: tuple[str, ...]) -> None:
        """Refuse what no prompt can be.

        Raises:
            ConfigError: naming the value and what it could be.
        """
        given = [("sort", self.sort and self.sort.removeprefix("-"), SORTS)]
        given += [("flag", flag, FLAGS) for flag in self.flags]
        given += [("split", self.split, SPLITS), ("teacher", self.teacher, teachers)]
        for name, value, known in given:
            if value is not None and value not in known:
                raise ConfigError(f"{name} is {value!r}; it can be {', '.join(known)}.")

    @property
    def needs_all(self) -> bool:
        """Whether every prompt has to be known before the first can be shown."""
        return bool(self.task or self.teacher or self.split or self.flags or self.sort)

    @property
    def needs_responses(self) -> bool:
        """Whether how responses ended has to be known."""
        return "cut" in self.flags or (self.sort or "").endswith("length")


def flag_P(index: Index, flag: str) -> Booleans:
    """Which prompts have a flag, shape (P,)."""
    match flag:
        case "unsure":
            return np.abs(index.margin_P) < UNSURE_MARGIN
        case "novel":
            return index.is_novel_P
        case "all_wrong":
            return index.all_wrong_P
        case "disagree":
            return index.disagrees_P
        case _:
            return num_cut_P(index) > 0


def num_cut_P(index: Index, rows: Any = slice(None)) -> NDArray[np.int64]:
    """How many responses were cut or went round in circles, for some prompts."""
    ending_PM = index.ending_PM[rows]
    return ((ending_PM == CUT) | (ending_PM == LOOP)).sum(axis=1)


def mask_P(index: Index, filters: Filters) -> Booleans:
    """Which prompts fit, the search aside, shape (P,); those not read yet do not."""
    fits_P = np.arange(len(index.task_P)) < index.num_read
    if filters.task is not None:
        known = index.tasks.labels
        fits_P &= index.task_P == (known.index(filters.task) if filters.task in known else -2)
    if filters.teacher is not None:
        fits_P &= index.teacher_P == index.names.index(filters.teacher)
    if filters.split is not None:
        fits_P &= index.split_P == SPLITS.index(filters.split)
    for flag in filters.flags:
        fits_P &= flag_P(index, flag)
    return fits_P


def in_order(index: Index, places: Places, sort: str | None) -> Places:
    """Places in the order asked for; what is unknown comes last, equals in the order of the run."""
    if sort is None:
        return places
    is_falling, name = sort.startswith("-"), sort.removeprefix("-")
    if name == "prompt":
        keys = index.key_P[places]
        ranks = np.unique(keys, return_inverse=True)[1].astype(np.float64)
        return places[np.argsort(-ranks if is_falling else ranks, kind="stable")]
    values = _values(index, name)[places].astype(np.float64)
    return places[np.argsort(-values if is_falling else values, kind="stable")]  # NaN last


def _values(index: Index, name: str) -> Any:
    if name == "length":  # of the longest response, in its teacher's tokens
        longest_P = index.tokens_PM.max(axis=1, initial=0)
        return np.where((index.ending_PM > 0).any(axis=1), longest_P, np.nan)
    columns = {
        "margin": index.margin_P,
        "novelty": index.novelty_P,
        "best_reward": index.best_P,
        "spread": index.spread_P,
    }
    return columns[name]
