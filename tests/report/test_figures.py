import re
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
import pytest

from persyn_ray.report.content import complete
from persyn_ray.report.drawing import WIDTH, short_names
from persyn_ray.report.figures import draw

FIGURES = {
    "student": {"student"},
    "training": {"training"},
    "router": {
        "routed",
        "hits",
        "learning_curve",
        "loss",
        "reliability",
        "transfer",
        "hedging",
    },
    "constraints": {"front"},
    "allocation": {"allocation", "tasks"},
    "reward": {"reward"},
    "alpha_sweep": {"alpha"},
    "tokens": {"tokens"},
    "timing": {"timing"},
}


@pytest.mark.parametrize("section", FIGURES)
def test_a_section_alone_draws_its_figures(content: dict[str, Any], section: str) -> None:
    figures = draw(complete({section: content[section]}))
    assert set(figures) == FIGURES[section]
    for svg in figures.values():
        box = ET.fromstring(svg).attrib["viewBox"].split()
        assert float(box[2]) == pytest.approx(72 * WIDTH)


def test_no_data_no_figure() -> None:
    assert draw(complete({})) == {}


def test_same_content_same_bytes_and_settings_are_given_back(content: dict[str, Any]) -> None:
    report = complete({"timing": content["timing"]})
    before = dict(matplotlib.rcParams)
    assert draw(report) == draw(report)
    assert dict(matplotlib.rcParams) == before


def test_references_inside_a_figure_resolve_and_colours_are_themed(content: dict[str, Any]) -> None:
    svg = draw(complete({"alpha_sweep": content["alpha_sweep"]}))["alpha"]
    identifiers = re.findall(r'id="([^"]+)"', svg)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) <= set(identifiers)
    assert "var(--ink)" in svg
    assert "http" not in svg


def test_a_large_pool_is_summed_into_others() -> None:
    teachers = [f"Llama-3.1-{size}B-Instruct" for size in range(1, 20)]
    shares = {name: (rank + 1) / 190 for rank, name in enumerate(teachers)}
    allocation = {"teachers": teachers, "methods": {"persyn": shares}, "by_task": {"math": shares}}
    svg = draw(complete({"allocation": allocation}))["tasks"]
    assert "10 others" in svg
    assert "Llama-3.1-19B" in svg
    assert "Llama-3.1-3B<" not in svg


def test_unmeasured_values_leave_a_gap_not_a_zero(content: dict[str, Any]) -> None:
    content["student"]["methods"]["random"] = {"value": None}
    content["router"]["references"]["random"] = {"reward": None}
    content["reward"]["teachers"]["max-specialist"] = {}
    content["router"]["learning_curve"][0]["hit_at_1"] = None
    del content["router"]["loss_curve"]
    content["router"]["learning_curve"] = content["router"]["learning_curve"][:2]
    kept = {name: content[name] for name in ("student", "router", "reward")}
    figures = draw(complete(kept))
    assert "random teacher" not in figures["student"]
    assert "random teacher" not in figures["routed"]
    assert "max-specialist" in figures["reward"]


def test_names_of_methods_are_not_cut() -> None:
    methods = {method: {"reward": {"value": 0.5}} for method in ("family_strong", "quality_only")}
    svg = draw(complete({"router": {"references": methods}}))["routed"]
    assert "strong teacher of its family" in svg
    assert "best by quality alone" in svg


def test_long_names_keep_what_tells_them_apart() -> None:
    names = ["Meta-Llama-3.1-405B-Instruct", "Qwen2.5-7B-Instruct"]
    assert short_names(names, 20) == ["Meta-Llama-3.1-405B", "Qwen2.5-7B"]
    assert short_names(["gemma-2-9b-it"], 20) == ["gemma-2-9b-it"]
    both = ["a-rather-long-name-7B", "a-rather-long-name-7B-it"]
    assert len(set(short_names(both, 20))) == 2
    (shortened,) = short_names(["a-very-long-family-of-teachers-with-size-70B"], 20)
    assert len(shortened) == 20
    assert shortened.endswith("size-70B")
