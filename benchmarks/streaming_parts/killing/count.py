"""Counts what kills cost, from outside: side logs of engines and part files in, numbers out.

A row is a prompt with its teacher. In flight at a kill is what a killed engine had begun and what
was not on disk when it had ended: the rows that ran, and those that had ended but were not written
yet. Every row that was begun once more must have been in flight at a kill, and no more often.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.part_files import ids_of_shard, parts_in, rows_of_part
from persyn_ray.shards.response_store import measures_of, qualities_of, responses_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of, run_of
from persyn_ray.storage.schemas import RESPONSE_HASH

Row = tuple[str, str]
"""Teacher and prompt."""


@dataclass(frozen=True)
class Engine:
    """Whose log it is: pids of an engine, of its actor and of the driver that wanted it."""

    teacher: str
    driver: int
    actor: int
    pid: int


@dataclass(frozen=True)
class Noted:
    """One line of an engine's log."""

    row: Row
    is_begin: bool
    at: float
    engine: int
    """Its pid."""


def engines(logs: Path) -> list[Engine]:
    """All engines that were started."""
    return [_engine(path) for path in logs.glob("*.jsonl")]


def _engine(path: Path) -> Engine:
    teacher, *pids = path.stem.split(".")
    return Engine(teacher, *map(int, pids))


def noted(logs: Path) -> list[Noted]:
    """All that engines have noted, in the order of time."""
    found: list[Noted] = []
    for path in logs.glob("*.jsonl"):
        engine = _engine(path)
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # else it is being written
                said = json.loads(line)
                row = (engine.teacher, said["id"])
                found.append(Noted(row, said["what"] == "begin", said["at"], engine.pid))
    return sorted(found, key=lambda one: one.at)


def stored(recipe: Recipe, split: str) -> set[Row]:
    """Rows with a response on disk."""
    run = run_of(recipe)
    return {
        (teacher.name, name)
        for teacher in recipe.teachers
        for shard in shards_of(run, split)
        for name in ids_of_shard(run.responses(teacher), shard)
    }


@dataclass(frozen=True)
class Flight:
    """What the engines that a kill ended had in hand, once they had ended."""

    running: frozenset[Row] = frozenset()
    unwritten: frozenset[Row] = frozenset()
    """Ended, and not on disk."""

    @property
    def rows(self) -> frozenset[Row]:
        """All of them."""
        return self.running | self.unwritten


def in_flight(log: Sequence[Noted], engines: Iterable[int], on_disk: set[Row]) -> Flight:
    """What some engines that are gone had begun and nobody finds on disk."""
    gone = set(engines)
    begun = {one.row for one in log if one.is_begin and one.engine in gone} - on_disk
    ended = {one.row for one in log if not one.is_begin and one.engine in gone}
    return Flight(frozenset(begun - ended), frozenset(begun & ended))


def rework(log: Sequence[Noted], flights: Sequence[Flight]) -> dict[str, int]:
    """Rows begun more than once, in all, and beyond what was in flight at kills."""
    begun = Counter(one.row for one in log if one.is_begin)
    allowed = Counter(row for flight in flights for row in flight.rows)
    unwritten = {row for flight in flights for row in flight.unwritten}
    again = {row: number - 1 for row, number in begun.items() if number > 1}
    return {
        "rows_begun": len(begun),
        "in_flight": allowed.total(),
        "rework": sum(again.values()),
        "rework_after_end": sum(row in unwritten for row in again),
        "rework_over_in_flight": sum(
            max(0, number - allowed[row]) for row, number in again.items()
        ),
    }


def responses(recipe: Recipe, split: str, wanted: set[Row]) -> dict[str, int]:
    """Of the rows that were wanted: those without a response, and those on disk twice."""
    run, files = run_of(recipe), Counter[Row]()
    seen = Counter[Row]()
    for teacher in recipe.teachers:
        for row in _rows(run.responses(teacher), ["prompt_id"]):
            files[(teacher.name, str(row["prompt_id"]))] += 1
    for shard in shards_of(run, split):
        for table in responses_of(run, recipe.teachers, shard):
            for row in table.select(["teacher", "prompt_id"]).to_pylist():
                seen[(row["teacher"], row["prompt_id"])] += 1
    return {
        "rows_wanted": len(wanted),
        "rows_lost": len(wanted - set(seen)),
        "rows_unwanted": len(set(seen) - wanted),
        "rows_duplicated": sum(number - 1 for number in files.values()),
        "rows_seen_twice": sum(number - 1 for number in seen.values()),
    }


def scores(recipe: Recipe, split: str) -> dict[str, int]:
    """Signals of the stored responses that are missing, and those on disk twice."""
    run, missing, twice = run_of(recipe), 0, 0
    (part,) = parts_of(recipe.scoring)
    for shard in shards_of(run, split):
        said = responses_of(run, recipe.teachers, shard)
        wanted = sum(table.num_rows for table in said)
        for found in (
            measures_of(run, recipe.teachers, shard, said),
            qualities_of(run, recipe.teachers, part, shard, said),
        ):
            missing += wanted - sum(table.num_rows for table in found)
    for teacher in recipe.teachers:
        for folder in (run.learnability(teacher), run.quality(teacher, part)):
            keys = [tuple(row.values()) for row in _rows(folder, ["prompt_id", RESPONSE_HASH.name])]
            twice += len(keys) - len(set(keys))
    return {"scores_lost": missing, "scores_duplicated": twice}


def _rows(folder: Folder, columns: list[str]) -> list[dict[str, Any]]:
    """Every row of every part of a table, repeated ones too."""
    tables: list[pa.Table] = []
    for part in parts_in(folder):
        table = rows_of_part(folder, part, columns, None)
        assert table is not None, f"{part.name} cannot be read"
        tables.append(table.select(columns))
    return [row for table in tables for row in table.to_pylist()]
