"""The teachers of a run beside one another: rewards and the index in, shares and measures out.

Axes: P prompts, M teachers.
"""

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from persyn_ray.data.selection import seeded_draw
from persyn_ray.errors import DamagedError
from persyn_ray.storage.layout import PERSYN
from persyn_ray.storage.results import RouteResult, result_of
from persyn_ray.view.index import CUT, FAILURE, LOOP, Index, is_checked
from persyn_ray.view.narrow import matrix_of
from persyn_ray.view.numbers import number
from persyn_ray.view.overview import size_of
from persyn_ray.view.snapshot import Snapshot

MOST_POINTS, MOST_COMPARED = 2000, 20_000
Floats = NDArray[np.float64]


class Lengths(TypedDict):
    """Tokens of a teacher's responses."""

    p10: float | None
    p50: float | None
    p90: float | None
    max: float | None
    mean: float | None


class TeacherFacts(TypedDict):
    """One teacher; null where it is not known."""

    name: str
    price_in: float | None
    price_out: float | None
    size: float | None
    share: float | None
    shares: dict[str, float]
    num_responses: int | None
    quality: float | None
    learnability: float | None
    reward: float | None
    cut_share: float | None
    failed_share: float | None
    length: Lengths


class Agreement(TypedDict):
    """How often two teachers are both right or both wrong, or how far their ranks agree."""

    names: list[str]
    matrix: list[list[float | None]]


class Point(TypedDict):
    """A response by its two signals."""

    prompt_id: str
    teacher: str
    quality: float
    learnability: float


class Teachers(TypedDict):
    """Everything that view Teachers shows."""

    teachers: list[TeacherFacts]
    agreement: Agreement
    points: list[Point]


class Signals:
    """Sums over all rewarded prompts, and seeded samples; tables are read one shard at a time."""

    def __init__(self, seen: Snapshot, index: Index) -> None:
        self.names = index.names
        width = len(index.names)
        self.sums, self.counts = ({n: np.zeros(width) for n in SIGNALS} for _ in range(2))
        self.points: list[Point] = []
        compared: list[Floats] = []
        rewarded = set(seen.run.rewards.names(".parquet"))
        shards = [shard for shard, _ in index.shards if shard in rewarded]
        for shard in shards:
            try:
                with seen.run.rewards.parquet(shard) as file:
                    table = file.read()
            except (DamagedError, FileNotFoundError):
                continue
            values = {name: matrix_of(table, name, width) for name in SIGNALS}
            for name, values_PM in values.items():
                self.sums[name] += np.nansum(values_PM, axis=0)
                self.counts[name] += (~np.isnan(values_PM)).sum(axis=0)
            rng = np.random.default_rng(seeded_draw(0, shard) % 2**32)
            of_shard = -(-MOST_COMPARED // len(shards))
            rows = np.sort(rng.permutation(table.num_rows)[:of_shard])
            compared.append(values["quality"][rows])
            self._add_points(table["prompt_id"], values, rng, -(-MOST_POINTS // len(shards)))
        self.compared_PM = np.concatenate(compared) if compared else np.empty((0, width))

    def mean(self, name: str, m: int) -> float | None:
        """A teacher's mean of a signal; None where it is not known."""
        counted = self.counts[name][m]
        return number(self.sums[name][m] / counted) if counted else None

    def _add_points(self, ids: Any, values: dict[str, Floats], rng: Any, most: int) -> None:
        quality_PM, learnability_PM = values["quality"], values["learnability"]
        known = np.argwhere(~(np.isnan(quality_PM) | np.isnan(learnability_PM)))
        for p, m in known[np.sort(rng.permutation(len(known))[:most])]:
            self.points.append(
                Point(
                    prompt_id=ids[int(p)].as_py(),
                    teacher=self.names[m],
                    quality=float(quality_PM[p, m]),
                    learnability=float(learnability_PM[p, m]),
                )
            )


SIGNALS = ("quality", "learnability", "rewards")


def teachers_of(seen: Snapshot, index: Index | None) -> Teachers:
    """Everything that is known of the teachers."""
    names = list(seen.recipe.pool.names)
    signals = None if index is None else Signals(seen, index)
    matrix: list[list[float | None]] = [[None for _ in names] for _ in names]
    if signals is not None:
        matrix = agreement(signals.compared_PM, is_checked(seen))
    shares = _shares(seen, index)
    return Teachers(
        teachers=[_facts(seen, index, signals, shares, m) for m in range(len(names))],
        agreement=Agreement(names=names, matrix=matrix),
        points=[] if signals is None else signals.points[:MOST_POINTS],
    )


def agreement(quality_PM: Floats, is_check: bool) -> list[list[float | None]]:
    """Of each pair the share of prompts with the same verdict, or the correlation of their ranks
    (Spearman); None where they share fewer than one prompt, or two.
    """
    width = quality_PM.shape[1]
    matrix: list[list[float | None]] = [[None] * width for _ in range(width)]
    for i in range(width):
        for j in range(i, width):
            pair_N2 = quality_PM[:, [i, j]]
            pair_N2 = pair_N2[~np.isnan(pair_N2).any(axis=1)]
            matrix[i][j] = matrix[j][i] = _agree(pair_N2, is_check)
    return matrix


def _agree(pair_N2: Floats, is_check: bool) -> float | None:
    if is_check:
        return number(((pair_N2[:, 0] > 0) == (pair_N2[:, 1] > 0)).mean()) if len(pair_N2) else None
    if len(pair_N2) < 2:
        return None
    ranks = [rankdata(pair_N2[:, side]) for side in (0, 1)]
    deviations = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum())
    return number((deviations[0] * deviations[1]).sum() / scale) if scale else None


def _shares(seen: Snapshot, index: Index | None) -> dict[str, dict[str, float]]:
    """Each method's shares by teacher; PerSyn's as its assignment stands now."""
    found: dict[str, dict[str, float]] = {}
    record = seen.records.get("route")
    assigned = result_of(record, RouteResult).assigned if record is not None else {}
    for method, counts in assigned.items():
        total = sum(counts.values())
        found[method] = {name: count / total for name, count in counts.items()} if total else {}
    if index is not None and (index.teacher_P >= 0).any():
        chosen = index.teacher_P[index.teacher_P >= 0]
        shares = np.bincount(chosen, minlength=len(index.names)) / len(chosen)
        found[PERSYN] = dict(zip(index.names, shares.tolist(), strict=True))
    return found


def _facts(
    seen: Snapshot,
    index: Index | None,
    signals: Signals | None,
    shares: dict[str, dict[str, float]],
    m: int,
) -> TeacherFacts:
    teacher = seen.recipe.teachers[m]
    found = TeacherFacts(
        name=teacher.name,
        price_in=teacher.price.prompt if teacher.price else None,
        price_out=teacher.price.response if teacher.price else None,
        size=size_of(teacher),
        share=shares.get(PERSYN, {}).get(teacher.name),
        shares={method: of[teacher.name] for method, of in shares.items() if teacher.name in of},
        num_responses=None,
        quality=signals.mean("quality", m) if signals else None,
        learnability=signals.mean("learnability", m) if signals else None,
        reward=signals.mean("rewards", m) if signals else None,
        cut_share=None,
        failed_share=None,
        length=Lengths(p10=None, p50=None, p90=None, max=None, mean=None),
    )
    if index is None or not index.has_responses:
        return found
    ending_P = index.ending_PM[:, m]
    num_asked = int((ending_P > 0).sum())
    is_whole_P = (ending_P > 0) & (ending_P != FAILURE)
    found["num_responses"] = num = int(is_whole_P.sum())
    if num:
        found["cut_share"] = int(((ending_P == CUT) | (ending_P == LOOP)).sum()) / num
        found["length"] = _lengths(index.tokens_PM[is_whole_P, m])
    if num_asked:
        found["failed_share"] = (num_asked - num) / num_asked
    return found


def _lengths(tokens: NDArray[np.int32]) -> Lengths:
    low, middle, high = (float(one) for one in np.percentile(tokens, [10, 50, 90]))
    return Lengths(
        p10=low, p50=middle, p90=high, max=float(tokens.max()), mean=number(tokens.mean())
    )
