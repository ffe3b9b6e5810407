"""Pools on a changing cluster: engines share by speed, new nodes are used, lost ones replaced."""

import json
from typing import Any

import pytest

from .own_cluster import printed_by

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
WITHIN = 60.0
"""Seconds in which a node that comes is used, and in which rows of one that died are elsewhere."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    lines = printed_by("elastic_cluster.py", tmp_path_factory.mktemp("elastic"))
    (line,) = [line for line in lines if line.startswith('{"teacher": ')]
    return json.loads(line)


def test_a_slow_engine_gets_fewer_rows_than_a_fast_one(seen: dict[str, Any]) -> None:
    slow, fast = seen["teacher"]["shares"]
    assert slow > 0
    assert fast > 3 * slow  # it is ten times as fast


@pytest.mark.parametrize("what", ["teacher", "pool"])
def test_a_node_that_comes_is_used_within_a_minute(seen: dict[str, Any], what: str) -> None:
    assert seen[what]["added_used_after"] < WITHIN


@pytest.mark.parametrize("what", ["teacher", "pool"])
def test_rows_of_a_node_that_died_are_elsewhere_within_a_minute(
    seen: dict[str, Any], what: str
) -> None:
    assert seen[what]["lost_in_flight"] > 0
    assert seen[what]["recovered_after"] < WITHIN


def test_a_drained_node_ends_what_it_holds_and_begins_nothing(seen: dict[str, Any]) -> None:
    teacher = seen["teacher"]
    assert teacher["drain_accepted"]
    assert teacher["drain_heeded_after"] < WITHIN
    assert teacher["in_flight_after_drain"] == 0
    assert teacher["after_drain"] > 0, "nothing was left for others: the test shows nothing"


@pytest.mark.parametrize(("what", "units"), [("teacher", 600), ("pool", 240)])
def test_nothing_is_lost_and_rework_is_what_was_in_flight(
    seen: dict[str, Any], what: str, units: int
) -> None:
    found = seen[what]
    assert (found["failure"], found["alive"]) == ("", False)
    assert (found["units"], found["results"]) == (units, units)
    assert found["rework"] <= found["lost_in_flight"]
