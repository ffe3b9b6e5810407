"""Filters and orders over columns of an index, against plain Python."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError
from persyn_ray.view.index import CUT, LOOP, SPLITS, WHOLE
from persyn_ray.view.prompts.filters import (
    FLAGS,
    SORTS,
    UNSURE_MARGIN,
    Filters,
    flag_P,
    in_order,
    mask_P,
    num_cut_P,
)

NAMES = ("ann", "bob")
TASKS = ["math", "code"]
values = st.one_of(st.just(float("nan")), st.floats(-3, 3, width=32))
prompts = st.fixed_dictionaries(
    {
        "task": st.integers(-1, 1),
        "teacher": st.integers(-1, 1),
        "split": st.integers(0, 2),
        "margin": values,
        "novelty": values,
        "best": values,
        "spread": values,
        "is_novel": st.booleans(),
        "all_wrong": st.booleans(),
        "disagrees": st.booleans(),
        "key": st.sampled_from([b"a", b"b", b"c"]),
        "ending": st.lists(st.sampled_from([0, WHOLE, CUT, LOOP]), min_size=2, max_size=2),
        "tokens": st.lists(st.integers(0, 900), min_size=2, max_size=2),
    }
)
rows_of = st.lists(prompts, min_size=1, max_size=8)


def index_of(rows: list[dict[str, Any]], num_read: int | None = None) -> Any:
    """What filters read of an index over these prompts."""

    def column(name: str, kind: Any) -> np.ndarray:
        return np.array([row[name] for row in rows], kind)

    return SimpleNamespace(
        names=NAMES,
        tasks=SimpleNamespace(labels=TASKS),
        num_read=len(rows) if num_read is None else num_read,
        task_P=column("task", np.int32),
        teacher_P=column("teacher", np.int16),
        split_P=column("split", np.int8),
        **{f"{name}_P": column(name, np.float32) for name in ("margin", "novelty")},
        best_P=column("best", np.float32),
        spread_P=column("spread", np.float32),
        **{f"{n}_P": column(n, np.bool_) for n in ("is_novel", "all_wrong", "disagrees")},
        key_P=column("key", "S24"),
        ending_PM=column("ending", np.uint8),
        tokens_PM=column("tokens", np.int32),
    )


def fits(row: dict[str, Any], filters: Filters) -> bool:
    flags = {
        "unsure": abs(row["margin"]) < UNSURE_MARGIN,
        "novel": row["is_novel"],
        "all_wrong": row["all_wrong"],
        "disagree": row["disagrees"],
        "cut": any(ending in (CUT, LOOP) for ending in row["ending"]),
    }
    return (
        (filters.task is None or (row["task"] >= 0 and TASKS[row["task"]] == filters.task))
        and (
            filters.teacher is None
            or (row["teacher"] >= 0 and NAMES[row["teacher"]] == filters.teacher)
        )
        and (filters.split is None or SPLITS[row["split"]] == filters.split)
        and all(flags[flag] for flag in filters.flags)
    )


some_filters = st.builds(
    Filters,
    task=st.sampled_from([None, *TASKS, "poetry"]),
    teacher=st.sampled_from([None, *NAMES]),
    split=st.sampled_from([None, *SPLITS]),
    flags=st.lists(st.sampled_from(FLAGS), unique=True, max_size=2).map(tuple),
)


@given(rows_of, some_filters, st.integers(0, 8))
def test_what_fits_is_what_each_filter_says_of_prompts_that_are_read(
    rows: list[dict[str, Any]], filters: Filters, num_read: int
) -> None:
    found = mask_P(index_of(rows, num_read), filters)
    wanted = [fits(row, filters) and n < num_read for n, row in enumerate(rows)]
    assert found.tolist() == wanted


def key_of(row: dict[str, Any], sort: str) -> float | None:
    """What a prompt is ordered by; None where it is unknown."""
    if sort == "prompt":
        return float(row["key"][0])
    if sort == "length":
        return float(max(row["tokens"])) if any(row["ending"]) else None
    value = float(np.float32(row[{"best_reward": "best"}.get(sort, sort)]))
    return None if np.isnan(value) else value


@given(rows_of, st.sampled_from(SORTS), st.booleans())
def test_an_order_is_stable_and_the_unknown_come_last_both_ways(
    rows: list[dict[str, Any]], sort: str, is_falling: bool
) -> None:
    asked = f"-{sort}" if is_falling else sort
    found = in_order(index_of(rows), np.arange(len(rows)), asked).tolist()
    keys = [key_of(row, sort) for row in rows]
    known = [n for n, key in enumerate(keys) if key is not None]
    sign = -1 if is_falling else 1
    wanted = sorted(known, key=lambda n: sign * (keys[n] or 0.0))
    assert found == wanted + [n for n, key in enumerate(keys) if key is None]


@given(rows_of)
def test_without_an_order_prompts_stay_in_that_of_the_run(rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))[::-1]
    assert in_order(index_of(rows), places, None).tolist() == places.tolist()
    counted = num_cut_P(index_of(rows)).tolist()
    assert [bool(num) for num in counted] == flag_P(index_of(rows), "cut").tolist()


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (Filters(sort="size"), "sort is 'size'; it can be prompt, margin"),
        (Filters(sort="--margin"), "sort is '-margin'"),
        (Filters(flags=("novel", "odd")), "flag is 'odd'; it can be unsure, novel"),
        (Filters(split="test"), "split is 'test'; it can be parallel, routed, heldout"),
        (Filters(teacher="eve"), "teacher is 'eve'; it can be ann, bob"),
    ],
)
def test_what_no_prompt_can_be_is_refused(filters: Filters, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        filters.require_known(NAMES)


def test_a_task_that_is_not_there_yet_is_no_error() -> None:
    Filters(task="poetry", sort="-length", flags=FLAGS, split="routed").require_known(NAMES)


@pytest.mark.parametrize(
    ("filters", "needs_all", "needs_responses"),
    [
        (Filters(), False, False),
        (Filters(search="integral"), False, False),
        (Filters(task="math"), True, False),
        (Filters(flags=("cut",)), True, True),
        (Filters(sort="-length"), True, True),
        (Filters(sort="margin"), True, False),
    ],
)
def test_only_what_is_asked_for_has_to_be_read(
    filters: Filters, needs_all: bool, needs_responses: bool
) -> None:
    assert (filters.needs_all, filters.needs_responses) == (needs_all, needs_responses)
