"""The list of prompts: filters in, a page of rows out, and the neighbours of one of them."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from persyn_ray.pipeline.results.prompt_rows import rows_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.view.index import SPLITS, Index
from persyn_ray.view.numbers import number
from persyn_ray.view.prompts.filters import (
    FLAGS,
    Filters,
    Places,
    flag_P,
    in_order,
    mask_P,
    num_cut_P,
)
from persyn_ray.view.prompts.search import Search
from persyn_ray.view.viewed import Viewed

PREVIEW_CHARS = 240
WAIT_SECONDS, SEARCH_SECONDS = 2.5, 2.0
KEPT = 8  # lists and searches that are remembered


class PromptRow(TypedDict):
    """One prompt of the list."""

    prompt_id: str
    text: str
    task: str | None
    split: str
    source: str | None
    teacher: str | None
    margin: float | None
    novelty: float | None
    is_novel: bool
    best_reward: float | None
    spread: float | None
    num_responses: int | None
    num_cut: int | None
    flags: list[str]


class PromptPage(TypedDict):
    """A page of the list."""

    total: int
    is_complete: bool
    searched: int
    offset: int
    limit: int
    rows: list[PromptRow]


@dataclass(frozen=True, eq=False)
class Listed:
    """All prompts that fit, in order."""

    places: Places
    is_complete: bool
    searched: int


class PromptList:
    """Lists of one run's prompts; those asked for last are remembered."""

    def __init__(self, viewed: Viewed) -> None:
        self._viewed = viewed
        self._lock = threading.Lock()
        self._orders: OrderedDict[tuple[Filters, int, int, int], Places] = OrderedDict()
        self._searches: OrderedDict[tuple[Filters, int, int], Search] = OrderedDict()

    def page(self, filters: Filters, offset: int, limit: int) -> PromptPage:
        """Rows from `offset` on.

        Raises:
            ConfigError: a filter that no prompt can fit.
        """
        filters.require_known(self._viewed.look().recipe.pool.names)
        last = offset + limit
        index = self._viewed.indexed(lambda one: _is_ready(one, filters, last), WAIT_SECONDS)
        if index is None:
            nothing = self._viewed.look().prompts is None
            return PromptPage(
                total=0, is_complete=nothing, searched=0, offset=offset, limit=limit, rows=[]
            )
        run = self._viewed.look().run
        if not filters.search and not filters.needs_all:  # the order of the run: nothing to list
            places = np.arange(min(offset, index.num_read), min(last, index.num_read))
            total, searched = len(index.task_P), index.num_read
            is_complete = searched >= min(last, total)
        else:
            listed = self._listed(run, index, filters)
            places, total = listed.places[offset:last], len(listed.places)
            is_complete, searched = listed.is_complete, listed.searched
        return PromptPage(
            total=total,
            is_complete=is_complete,
            searched=searched,
            offset=offset,
            limit=limit,
            rows=rows_at(run, index, places),
        )

    def neighbours(self, filters: Filters, place: int) -> tuple[str | None, str | None]:
        """Ids before and after a prompt in the list; None where it ends or does not hold it."""
        index = self._viewed.indexed(lambda one: _is_ready(one, filters, place + 2), WAIT_SECONDS)
        if index is None:
            return None, None
        if not filters.search and not filters.needs_all:
            around = [place - 1, place + 1]
            ids = [index.shard_of(at)[1] if 0 <= at < index.num_read else None for at in around]
            return ids[0], ids[1]
        places = self._listed(self._viewed.look().run, index, filters).places
        found = np.flatnonzero(places == place)
        if not len(found):
            return None, None
        at = int(found[0])
        before = index.shard_of(int(places[at - 1]))[1] if at else None
        after = index.shard_of(int(places[at + 1]))[1] if at + 1 < len(places) else None
        return before, after

    def _listed(self, run: RunLayout, index: Index, filters: Filters) -> Listed:
        if not filters.search:
            places = self._ordered(index, filters, np.flatnonzero(mask_P(index, filters)))
            return Listed(places, _is_ready(index, filters, 0), index.num_read)
        search = self._search(index, filters)
        if not search.is_complete(index):
            search.go_on(run.prompts, index, SEARCH_SECONDS)
        places = self._ordered(index, filters, np.array(search.places, np.int64))
        return Listed(places, search.is_complete(index), search.searched)

    def _ordered(self, index: Index, filters: Filters, places: Places) -> Places:
        key = (filters, id(index), index.version, len(places))
        with self._lock:
            if key in self._orders:
                return self._orders[key]
        ordered = in_order(index, places, filters.sort)
        with self._lock:
            self._orders[key] = ordered
            while len(self._orders) > KEPT:
                self._orders.popitem(last=False)
        return ordered

    def _search(self, index: Index, filters: Filters) -> Search:
        asked = replace(filters, sort=None)
        version = index.version if asked.needs_all else 0
        key = (asked, id(index), version)
        with self._lock:
            if key not in self._searches:
                fits_P = mask_P(index, asked)
                if not asked.needs_all:  # also those whose ids are not read yet
                    fits_P[:] = True
                self._searches[key] = Search(filters.search, fits_P)
                while len(self._searches) > KEPT:
                    self._searches.popitem(last=False)
            return self._searches[key]


def rows_at(run: RunLayout, index: Index, places: Places) -> list[PromptRow]:
    """The rows of some prompts, in the order of their places."""
    where = [index.shard_of(int(place)) for place in places]
    texts = _previews(run, where)
    flags = {flag: flag_P(index, flag) for flag in FLAGS} if len(places) else {}
    num_PM = index.ending_PM[places]
    cut_P = num_cut_P(index, places)
    return [
        PromptRow(
            prompt_id=prompt_id,
            text=texts.get(prompt_id, ""),
            task=_label(index.tasks.labels, index.task_P[place]),
            split=SPLITS[index.split_P[place]],
            source=_label(index.sources.labels, index.source_P[place]),
            teacher=_label(index.names, index.teacher_P[place]),
            margin=number(index.margin_P[place]),
            novelty=number(index.novelty_P[place]),
            is_novel=bool(index.is_novel_P[place]),
            best_reward=number(index.best_P[place]),
            spread=number(index.spread_P[place]),
            num_responses=int((num_PM[row] > 0).sum()) if index.has_responses else None,
            num_cut=int(cut_P[row]) if index.has_responses else None,
            flags=[flag for flag, of in flags.items() if of[place]],
        )
        for row, (place, (_, prompt_id)) in enumerate(zip(places, where, strict=True))
    ]


def _previews(run: RunLayout, where: list[tuple[str, str]]) -> dict[str, str]:
    """The beginning of each prompt's last message."""
    by_shard: dict[str, list[str]] = {}
    for shard, prompt_id in where:
        by_shard.setdefault(shard, []).append(prompt_id)
    found: dict[str, str] = {}
    for shard, ids in by_shard.items():
        for row in rows_of(run.prompts, shard, ids, ["messages"]).to_pylist():
            last = row["messages"][-1]["content"] if row["messages"] else ""
            found[row["prompt_id"]] = (last or "")[:PREVIEW_CHARS]
    return found


def _label(labels: list[str] | tuple[str, ...], code: Any) -> str | None:
    return labels[int(code)] if code >= 0 else None


def _is_ready(index: Index, filters: Filters, last: int) -> bool:
    """Whether what a list goes by is read."""
    if filters.sort and filters.sort.endswith("prompt"):
        return index.is_complete
    if filters.needs_responses:
        return index.has_responses
    if filters.needs_all:
        return index.has_shards
    return index.num_read >= min(last, len(index.task_P)) and index.is_filled(last)
