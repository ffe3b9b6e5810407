import re
from typing import Any

import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.figures import draw


def drawn(content: dict[str, Any], name: str) -> str:
    report = complete({section: content[section] for section in ("router", "constraints")})
    return draw(report)[name]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_a_cell_for_each_fit_and_task_with_its_interval(content: dict[str, Any]) -> None:
    shown = texts(drawn(content, "transfer"))
    hits = [
        f"{ranking['hit_at_1']['value']:.2f}"
        for of_fit in content["router"]["transfer"]["fits"].values()
        for ranking in of_fit.values()
    ]
    assert sorted(text for text in shown if re.fullmatch(r"0\.\d\d", text)) == sorted(hits)
    bounds = [text for text in shown if re.fullmatch(r"0\.\d\d–0\.\d\d", text)]
    assert len(bounds) == len(hits) == 36
    assert {"all tasks", "without sort", "sort alone", "tested on", "fitted on"} <= set(shown)


def test_cells_of_new_tasks_have_a_border(content: dict[str, Any]) -> None:
    whole = drawn(content, "transfer").count("stroke-dasharray")
    assert whole == 4 + 4 * 3  # without each task, and each alone on the three others
    fits = content["router"]["transfer"]["fits"]
    content["router"]["transfer"]["fits"] = {"all": fits["all"]}
    assert drawn(content, "transfer").count("stroke-dasharray") == 0


def test_many_tasks_leave_no_room_for_intervals(content: dict[str, Any]) -> None:
    tasks = [f"a task of kind {number}" for number in range(9)]
    ranking = content["router"]["transfer"]["fits"]["all"]["add"]
    fits = {"all": dict.fromkeys(tasks, ranking)}
    content["router"]["transfer"] = {"tasks": tasks, "fits": fits}
    shown = texts(drawn(content, "transfer"))
    assert shown.count("0.72") == 9
    assert not any("–" in text for text in shown)


def test_a_cell_without_a_figure_is_a_dash(content: dict[str, Any]) -> None:
    content["router"]["transfer"]["fits"]["all"]["add"] = {}
    del content["router"]["transfer"]["fits"]["without max"]["sort"]
    assert texts(drawn(content, "transfer")).count("–") == 2


def test_without_scaling_only_one_error_is_drawn(content: dict[str, Any]) -> None:
    assert {"as they are", "scaled"} <= set(texts(drawn(content, "reliability")))
    content["router"]["calibration"].update(scaled_ece=None, scaled_noise=None)
    assert "scaled" not in texts(drawn(content, "reliability"))


def test_the_ends_of_hedging_are_named_where_there_are_two(content: dict[str, Any]) -> None:
    ends = {"route-only", "generate-then-select"}
    assert ends <= set(texts(drawn(content, "hedging")))
    content["router"]["hedging"] = content["router"]["hedging"][:1]
    assert not ends & set(texts(drawn(content, "hedging")))


def test_a_front_for_each_unit(content: dict[str, Any]) -> None:
    one = texts(drawn(content, "front"))
    assert "summed cost, tokens" in one
    assert one.count("chosen") == 1
    points = [{"cost": 1.0 + step, "reward": 7000.0 + step, "unit": "dollars"} for step in range(3)]
    content["constraints"]["pareto"] += points
    both = texts(drawn(content, "front"))
    assert {"summed cost, tokens", "summed cost, dollars"} <= set(both)
    assert both.count("chosen") == 2


@pytest.mark.parametrize("unit", ["GPU-seconds", None])
def test_a_cost_that_is_not_limited_has_a_line_in_place_of_a_point(
    content: dict[str, Any], unit: str | None
) -> None:
    for point in content["constraints"]["pareto"]:
        point["unit"] = unit
    svg = drawn(content, "front")
    assert "chosen" in texts(svg)
    assert svg.count("stroke-dasharray") == 1


def test_costs_that_lie_close_stay_apart(content: dict[str, Any]) -> None:
    for step, point in enumerate(content["constraints"]["pareto"]):
        point["cost"] = 652_000 + 100 * step
    ticks = [text for text in texts(drawn(content, "front")) if text.endswith("k")]
    assert len(ticks) > 3
    assert len(set(ticks)) == len(ticks)
