import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.report import numbers
from persyn_ray.report.content import complete
from persyn_ray.report.html import NOT_MEASURED, render
from persyn_ray.report.summary import headline

TEXT_OUTSIDE = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
    const outer = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < outer.left - 2 || box.right > outer.right + 2;
    }).map(text => text.textContent);
})"""


PARTS = {
    "references",
    "learning_curve",
    "loss_curve",
    "training_curves",
    "by_task",
    "calibration",
    "transfer",
    "hedging",
    "novelty",
    "variance",
}
"""Of sections that are there without them."""


class Text(HTMLParser):
    """Visible text of the table with a given id."""

    def __init__(self, identifier: str) -> None:
        super().__init__()
        self.identifier, self.inside, self.cells = identifier, False, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.inside = ("id", self.identifier) in attrs

    def handle_data(self, data: str) -> None:
        if self.inside and data.strip():
            self.cells.append(data.strip())


def table(page: str, identifier: str) -> list[str]:
    parser = Text(identifier)
    parser.feed(page)
    return parser.cells


def test_every_headline_number_is_in_the_table(content: dict[str, Any], rendered: str) -> None:
    cells = table(rendered, "headline")
    for row in headline(complete(content)):
        shown = {
            row.label,
            numbers.number(row.correct_share),
            numbers.signed((row.difference or {}).get("value")),
        }
        for estimate in (row.reward, row.accuracy, row.difference):
            shown |= {numbers.interval(estimate)}
        for estimate in (row.reward, row.accuracy):
            shown |= {numbers.number((estimate or {}).get("value"))}
        assert shown <= set(cells)


def test_an_empty_run_is_honest_about_every_section() -> None:
    page = render({})
    for name in set(NOT_MEASURED) - PARTS:
        assert f"Not measured in this run: {NOT_MEASURED[name]}" in page
    assert "<svg" not in page


def test_parts_of_a_section_may_be_missing(content: dict[str, Any]) -> None:
    router = {"num_fit": 10, "hit_at_1": content["router"]["hit_at_1"]}
    page = render(
        {
            "router": router,
            "allocation": {"teachers": ["a", "b"]},
            "student": {"num_problems": 3},
            "training": {"methods": {"persyn": {"num_steps": 4}}},
        }
    )
    for name in PARTS - {"variance"} | {"student"}:  # that of rewards, which are missing here
        assert NOT_MEASURED[name] in page
    assert numbers.interval(router["hit_at_1"]) in page


def test_what_selects_among_all_responses_is_told_apart(rendered: str) -> None:
    cells = table(rendered, "headline")
    told = [cells[place - 1] for place, cell in enumerate(cells) if cell == "needs all responses"]
    assert told == ["best by quality alone", "oracle"]


def test_router_figures_have_their_numbers_beside_them(rendered: str) -> None:
    spaced = rendered.replace("\N{NO-BREAK SPACE}", " ")
    assert "The claims are overconfident." in spaced
    assert "The temperature that fits best is 1.64" in spaced
    assert "7.3 % of the routed prompts are unlike the parallel set" in spaced
    assert "<td>reverse</td><td>27 %</td>" in spaced
    for fit in ("all tasks", "without add", "max alone"):
        assert spaced.count(f"<tr><td>{fit}</td>") == 3


def test_how_students_were_trained_is_shown_with_what_was_exported(rendered: str) -> None:
    spaced = rendered.replace("\N{NO-BREAK SPACE}", " ")
    assert '<td>160<span class="low">stopped early</span></td><td>step 120</td><td>0.61' in spaced
    assert spaced.count("<td>step 120</td>") == 2


def test_limits_are_shown_with_their_use(rendered: str) -> None:
    spaced = rendered.replace("\N{NO-BREAK SPACE}", " ")
    assert '<td>tokens</td><td>120 k</td><td>120 k<span class="low">used up</span></td>' in spaced
    assert "<td>dollars</td><td>4</td><td>2.31</td>" in spaced
    assert "The limits cost 5.1 % of the predicted reward." in spaced


def test_limits_that_change_nothing_are_said_to(content: dict[str, Any]) -> None:
    constraints = content["constraints"]
    constraints.update(value=constraints["unconstrained_value"], gap=0.0, pareto=[])
    page = render({"constraints": constraints})
    assert "No limit binds" in page
    assert "no limit is on a summed cost" in page


def test_calibration_within_chance_is_no_complaint(content: dict[str, Any]) -> None:
    content["router"]["calibration"]["ece"].update(value=0.02, low=0.0)
    page = render({"router": {"calibration": content["router"]["calibration"]}})
    assert "no more than chance gives" in page
    assert "The claims are too" not in page


def test_no_dead_letters_is_said(content: dict[str, Any]) -> None:
    assert "every row of this run was carried through" in render({"dead_letters": {"num": 0}})
    assert "verification took longer than 10.0 s" in render(
        {"dead_letters": content["dead_letters"]}
    )


def test_scaling_none_is_called_unscaled(content: dict[str, Any]) -> None:
    run = {"alpha": 0.4, "scaling": "none"}
    page = render({"run": run, "reward": {"measured_on": "parallel set"}})
    assert "both unscaled" in page
    assert "no scaling" in page


def test_names_are_escaped() -> None:
    page = render({"run": {"name": "<script>alert(1)</script>", "recipe": {"a": "</pre><b>"}}})
    assert "<script" not in page
    assert "</pre><b>" not in page


@pytest.mark.browser
def test_the_whole_page_in_a_browser(rendered: str, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(rendered, encoding="utf-8")
    assert path.stat().st_size < 2_000_000
    assert not re.search(r'(?:src|href)="(?!#|data:,")', rendered)

    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert requests == [path.as_uri()]
    assert complaints == []
    assert len(page.query_selector_all("figure svg")) == 16
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure in page.query_selector_all("figure svg"):
            box = figure.bounding_box()
            assert box["width"] > 200
            assert box["height"] > 80
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert page.evaluate(TEXT_OUTSIDE) == []
    page.close()
