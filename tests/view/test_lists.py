"""Filters, order, search and pages of prompts over a small run whose every value is known."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.view.prompts import listing

from . import planting
from .conftest import Get, getter

PROMPTS = [
    {"id": "p0", "text": "Zebra crossing", "task": "add", "split": "parallel"},
    {"id": "p1", "text": "apples and pears", "task": "sort", "split": "parallel"},
    {"id": "r0", "text": "Ärger mit ÄPFELN", "task": "add"},
    {"id": "r1", "text": "banana 100% (sure)", "task": "sort"},
    {"id": "r2", "text": "Apples again", "task": "add"},
    {"id": "r3", "text": "cherry", "task": None},
]
PARALLEL, FIRST, SECOND = (f"shard-{number:06d}.parquet" for number in range(3))


@pytest.fixture
def get(tmp_path: Path) -> Get:
    return getter(planted_world(str(tmp_path / "run")))


def planted_world(address: str) -> str:
    run = planting.planted(address, PROMPTS)
    reward = {
        "p0": {"learnability": [-2.0, -1.0], "quality": [1.0, 0.0], "rewards": [0.9, 0.1]},
        "p1": {"learnability": [-1.0, None], "quality": [0.0, None], "rewards": [0.5, None]},
    }
    planting.reward(run, PARALLEL, reward)
    planting.assign(run, PARALLEL, {"p0": ("a", 2.0), "p1": ("b", 0.1)})
    planting.assign(run, FIRST, {"r0": ("a", 0.5), "r1": ("b", 0.3), "r2": ("a", None)})
    planting.distances(run, FIRST, {"r0": (0.9, True), "r1": (0.1, False), "r2": (0.2, False)})
    cut = {"response": "and so", "finish_reason": "length", "num_tokens": 99}
    failed = {"finish_reason": "error", "error": "refused", "num_tokens": 0}
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"p0": "right", "p1": failed})
    planting.respond(run, 0, "shard-000001.0001-x.parquet", {"r0": cut})
    planting.respond(run, 1, "shard-000000.0001-x.parquet", {"p0": "wrong"})
    return address


def ids(found: Any) -> list[str]:
    return [row["prompt_id"] for row in found["rows"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["p0", "p1", "r0", "r1", "r2", "r3"]),
        ({"task": "add"}, ["p0", "r0", "r2"]),
        ({"task": "nothing"}, []),
        ({"teacher": "b"}, ["p1", "r1"]),
        ({"split": "parallel"}, ["p0", "p1"]),
        ({"flag": "unsure"}, ["p1", "r1"]),
        ({"flag": "novel"}, ["r0"]),
        ({"flag": "all_wrong"}, ["p1"]),
        ({"flag": "disagree"}, ["p0"]),
        ({"flag": "cut"}, ["r0"]),
        ({"flag": ["cut", "novel"]}, ["r0"]),
        ({"flag": ["cut", "unsure"]}, []),
        ({"task": "sort", "split": "routed"}, ["r1"]),
        ({"search": "apples"}, ["p1", "r2"]),
        ({"search": "äpfeln"}, ["r0"]),
        ({"search": "100% (s"}, ["r1"]),
        ({"search": "R2"}, ["r2"]),
        ({"search": ".*"}, []),
        ({"search": "apples", "task": "sort"}, ["p1"]),
        ({"search": "apples", "sort": "prompt"}, ["r2", "p1"]),
    ],
)
def test_filters_leave_those_that_fit(get: Get, query: dict[str, Any], expected: list[str]) -> None:
    found = get("/api/prompts", **query)
    assert ids(found) == expected
    assert found["total"] == len(expected)
    assert found["is_complete"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("margin", ["p1", "r1", "r0", "p0", "r2", "r3"]),
        ("-margin", ["p0", "r0", "r1", "p1", "r2", "r3"]),
        ("novelty", ["r1", "r2", "r0", "p0", "p1", "r3"]),
        ("-best_reward", ["p0", "p1", "r0", "r1", "r2", "r3"]),
        ("spread", ["p1", "p0", "r0", "r1", "r2", "r3"]),
        ("-length", ["r0", "p0", "p1", "r1", "r2", "r3"]),
        ("prompt", ["r2", "p1", "r1", "r3", "p0", "r0"]),
        ("-prompt", ["r0", "p0", "r3", "r1", "p1", "r2"]),
    ],
)
def test_the_order_is_by_value_and_the_unknown_comes_last(
    get: Get, sort: str, expected: list[str]
) -> None:
    assert ids(get("/api/prompts", sort=sort)) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"sort": "size"}, "sort is 'size'; it can be prompt, margin"),
        ({"flag": "odd"}, "flag is 'odd'; it can be unsure"),
        ({"split": "train"}, "split is 'train'; it can be parallel"),
        ({"teacher": "z"}, "teacher is 'z'; it can be a, b"),
        ({"limit": 0}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": "x"}, "offset"),
    ],
)
def test_what_no_prompt_can_be_is_refused(get: Get, query: dict[str, Any], told: str) -> None:
    assert told in get("/api/prompts", 400, **query)["error"]


def test_pages_of_a_filter_join_without_gaps(get: Get) -> None:
    pages = [get("/api/prompts", sort="margin", offset=at, limit=2) for at in (0, 2, 4, 6)]
    assert [name for page in pages for name in ids(page)] == ["p1", "r1", "r0", "p0", "r2", "r3"]
    assert {page["total"] for page in pages} == {6}


def test_a_search_that_runs_out_of_time_says_so_and_goes_on_when_asked_again(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SEARCH_SECONDS", -1.0)
    found = get("/api/prompts", search="apples")
    assert (ids(found), found["is_complete"], found["searched"]) == (["p1"], False, 2)
    found = get("/api/prompts", search="apples")
    assert (ids(found), found["is_complete"], found["searched"]) == (["p1", "r2"], False, 5)
    found = get("/api/prompts", search="apples")
    assert (ids(found), found["is_complete"], found["searched"]) == (["p1", "r2"], True, 6)


def test_rows_count_responses_and_those_that_were_cut(get: Get) -> None:
    get("/api/prompts", flag="cut")  # waits for the responses
    rows = {row["prompt_id"]: row for row in get("/api/prompts")["rows"]}
    counts = {name: (row["num_responses"], row["num_cut"]) for name, row in rows.items()}
    assert counts["p0"] == (2, 0)
    assert counts["p1"] == (1, 0)  # and it has failed
    assert counts["r0"] == (1, 1)
    assert counts["r3"] == (0, 0)
    assert rows["r3"]["teacher"] is None
    assert rows["r2"]["margin"] is None


def test_neighbours_of_a_prompt_that_the_filter_leaves_out_are_none(get: Get) -> None:
    found = get("/api/prompts/r0", task="sort")
    assert (found["previous_id"], found["next_id"]) == (None, None)
    found = get("/api/prompts/p1", search="apples")
    assert (found["previous_id"], found["next_id"]) == (None, "r2")
    found = get("/api/prompts/r0")
    assert (found["previous_id"], found["next_id"]) == ("p1", "r1")


def test_teachers_are_counted_live(get: Get) -> None:
    get("/api/prompts", flag="cut")
    first, second = get("/api/now")["teachers"]
    assert (first["answered"], first["cut"], first["failed"], first["tokens"]) == (2, 1, 1, 109)
    assert (second["answered"], second["cut"], second["failed"]) == (1, 0, 0)


def test_a_run_in_memory_is_shown_as_one_on_a_disk_is() -> None:
    get = getter(planted_world(f"memory://{uuid.uuid4().hex}/run"))
    assert ids(get("/api/prompts", sort="margin")) == ["p1", "r1", "r0", "p0", "r2", "r3"]
    assert get("/api/prompts/p0")["responses"][0]["text"] == "right"
    assert get("/api/now")["state"] == "stopped"
