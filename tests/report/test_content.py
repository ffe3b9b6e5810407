import json
from typing import Any

import pytest

from persyn_ray.errors import DataError
from persyn_ray.report.content import complete, to_json


def test_all_sections_are_always_there() -> None:
    assert list(complete({})) == [
        "run",
        "prompts",
        "allocation",
        "reward",
        "router",
        "constraints",
        "alpha_sweep",
        "student",
        "training",
        "lm_eval",
        "examples",
        "tokens",
        "spending",
        "timing",
        "forecast",
        "dead_letters",
        "problems",
    ]
    assert complete({}).pop("problems") == {}
    assert all(value is None for name, value in complete({}).items() if name != "problems")


def test_a_whole_content_is_kept_as_it_is(content: dict[str, Any]) -> None:
    completed = complete(content)
    assert completed["allocation"] == content["allocation"]
    assert json.loads(to_json(content)) == completed


def test_what_is_missing_becomes_null_or_empty() -> None:
    router = complete({"router": {"hit_at_1": {"value": 0.5}}})["router"]
    assert router is not None
    assert router["hit_at_1"] == {"value": 0.5, "low": None, "high": None, "num": None}
    assert router["regret"] is None
    assert router["references"] == {}
    assert router["loss_curve"] == []
    assert router["calibration"] is None
    assert router["hedging"] == []


def test_what_is_known_of_a_part_is_kept_and_the_rest_is_null() -> None:
    fits = {"all": {"math": {"regret": {"value": 0.1}}}}
    router = complete({"router": {"transfer": {"tasks": ["math"], "fits": fits}}})["router"]
    assert router is not None
    assert router["transfer"] is not None
    assert router["transfer"]["fits"]["all"]["math"] == {
        "hit_at_1": None,
        "chance_at_1": None,
        "regret": {"value": 0.1, "low": None, "high": None, "num": None},
        "pairwise_accuracy": None,
    }


def test_numbers_that_are_none_become_null(content: dict[str, Any]) -> None:
    content["router"]["regret"]["low"] = float("nan")
    content["student"]["by_task"]["persyn"]["add"] = float("inf")
    written = json.loads(to_json(content))
    assert written["router"]["regret"]["low"] is None
    assert written["student"]["by_task"]["persyn"]["add"] is None


def test_the_content_given_is_not_changed(content: dict[str, Any]) -> None:
    content["student"]["before"]["low"] = float("nan")
    del content["student"]["by_task"]
    complete(content)
    assert "by_task" not in content["student"]
    assert content["student"]["before"]["low"] is not None


@pytest.mark.parametrize(
    ("section", "value", "complaint"),
    [
        ("routre", {}, "routre"),
        ("router", {"hit@1": 0.5}, r"report\.router.*hit@1"),
        ("router", {"hit_at_1": 0.5}, r"report\.router\.hit_at_1"),
        ("router", {"calibration": {"ece": 0.1}}, r"report\.router\.calibration\.ece"),
        ("constraints", {"pareto": [{"price": 1}]}, r"report\.constraints\.pareto\[0\]"),
        ("router", {"loss_curve": {"step": 1}}, r"report\.router\.loss_curve"),
        ("run", {"alpha": "0.4"}, r"report\.run\.alpha"),
        (
            "timing",
            {"steps": [{"step": "route", "rows": 2.5}]},
            r"report\.timing\.steps\[0\]\.rows",
        ),
        ("allocation", {"methods": {"persyn": [0.5, 0.5]}}, r"report\.allocation\.methods\.persyn"),
    ],
)
def test_what_is_not_documented_is_refused(section: str, value: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        complete({section: value})
