"""The comparison's page, Markdown and table: nothing is left out, nothing claimed too much."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import DataError
from persyn_ray.report.comparison.content import complete, to_json
from persyn_ray.report.comparison.page import console, lines, markdown, p_value, render, titles
from persyn_ray.report.comparison.sentences import adjusted_verdict, sentences
from persyn_ray.report.methods import label

METHODS = {"before": 0.12, "random": 0.31, "strong": 0.42, "persyn": 0.48, "oracle": 0.52}


def compared(level: float, persyn: float, num_seeds: int, p_holm: float | None) -> dict[str, Any]:
    gap = persyn - level
    return {
        "mean": {"value": level, "low": level - 0.04, "high": level + 0.04, "num": 200},
        "by_seed": [level + 0.001 * seed for seed in range(num_seeds)],
        "difference": {
            "value": gap,
            "low": gap - 0.05,
            "high": gap + 0.05,
            "p_value": 0.01,
            "p_holm": p_holm,
            "num_seeds": num_seeds,
            "num_problems": 200,
        },
        "routed_reward": {"value": level + 0.2, "low": None, "high": None, "num": 1},
        "correct_share": level + 0.3,
        "num_examples": 9437,
    }


def comparison(num_seeds: int = 5) -> dict[str, Any]:
    """Five methods; PerSyn is clearly above random, not above strong, and below the oracle."""
    p_holm = {"before": None, "random": 0.0004, "strong": 0.061, "oracle": 0.02}
    methods = {
        name: compared(level, METHODS["persyn"], num_seeds, p_holm.get(name))
        for name, level in METHODS.items()
    }
    methods["persyn"]["difference"] = None
    methods["before"] |= {"routed_reward": None, "correct_share": None, "num_examples": None}
    return {
        "name": "A lab",
        "metric": "student accuracy",
        "seeds": [{"seed": seed, "run": f"/runs/lab/seeds/{seed}"} for seed in range(num_seeds)],
        "num_problems": 200,
        "same_problems": True,
        "rewarded_on": "held-out prompts",
        "adjusted_for": ["random", "strong", "oracle"],
        "methods": methods,
    }


def routed_only(num_seeds: int) -> dict[str, Any]:
    content = comparison(num_seeds)
    del content["methods"]["before"]
    why = "The recipe has no check: only routed rewards are compared."
    return content | {"metric": "routed reward", "why_no_students": why, "num_problems": None}


@pytest.fixture(scope="module")
def page() -> str:
    """The page of five seeds, drawn once."""
    return render(comparison())


def printed(content: dict[str, Any]) -> str:
    terminal = Console(width=200)
    with terminal.capture() as captured:
        terminal.print(console(content))
    return captured.get()


def test_every_method_and_its_figures_are_shown(page: str) -> None:
    for text in (page, markdown(comparison()), printed(comparison())):
        for name, level in METHODS.items():
            assert label(name) in text
            assert f"{level:.2f}" in text
            if name != "before":
                assert f"{level + 0.3:.2f}" in text  # correct share
        for shown in ("+0.17", "−0.04", "0.061", "9,437", "p (Holm)"):
            assert shown in text


def test_the_forms_have_the_same_sentences(page: str) -> None:
    content = comparison()
    text = markdown(content)
    for sentence in sentences(complete(content)):
        assert sentence in text
        assert sentence.replace("'", "&#39;") in page


def test_claims_go_by_the_adjusted_p_value(page: str) -> None:
    """Strong's interval excludes zero, its adjusted p-value is too large: no claim."""
    content = complete(comparison())
    verdicts = {
        name: adjusted_verdict(facts["difference"]) for name, facts in content["methods"].items()
    }
    assert verdicts == {
        "before": "higher",  # not adjusted: by its interval
        "random": "higher",
        "strong": "unclear",
        "persyn": "unmeasured",
        "oracle": "lower",
    }
    found = sentences(content)
    assert (
        "PerSyn's student accuracy is higher than with: before fine-tuning, random teacher."
        in found
    )
    assert "PerSyn's student accuracy shows no clear difference from: strong teacher." in found
    assert "PerSyn's student accuracy is lower than with: oracle." in found
    assert 'class="unclear">+0.06' in page


def test_one_seed_says_that_seeds_are_not_covered() -> None:
    for content, units in ((comparison(1), "problems"), (routed_only(1), "prompts")):
        text = markdown(content)
        assert f"other seeds are not covered, and intervals are over {units} alone" in text
    assert 'id="seeds"' not in render(comparison(1))
    many = " ".join(sentences(complete(comparison(5))))
    assert "not covered" not in many
    assert "large differences only" not in many
    assert "large differences only" in " ".join(sentences(complete(comparison(3))))


def test_what_the_p_values_are_adjusted_for_is_named() -> None:
    content = comparison()
    text = " ".join(sentences(complete(content)))
    assert "by Holm for 3 comparisons: random teacher, strong teacher, oracle." in text
    assert "before fine-tuning is not one of them" in text
    content["adjusted_for"] = []
    assert "Holm" not in " ".join(sentences(complete(content)))


def test_problems_of_each_seeds_own_are_said() -> None:
    assert "the same 200 held-out problems" in markdown(comparison())
    own = markdown(comparison() | {"same_problems": False})
    assert "held-out problems of their own, 200 in all" in own


def test_without_students_the_table_is_of_routed_rewards() -> None:
    content = complete(routed_only(4))
    assert titles(content) == ("data from", "routed reward", "PerSyn minus this", "p (Holm)")
    assert {len(line.cells) for line in lines(content)} == {3}
    text = markdown(content)
    assert "only routed rewards are compared" in text
    assert "over one mean a seed" in text
    assert "student accuracy" not in text


def test_the_markdown_table_is_rectangular_whatever_names_hold() -> None:
    content = comparison()
    content["methods"]["a|b"] = content["methods"].pop("strong")
    rows = [line for line in markdown(content).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(METHODS)
    assert {row.count("|") for row in rows} == {8}


def test_the_page_is_self_contained_and_escaped() -> None:
    page = render(comparison() | {"name": "<script>alert(1)</script>"})
    assert "<script" not in page
    assert "alert(1)" in page
    assert not re.search(r'(?:src|href)="(?!#|data:,")', page)
    assert "http" not in page
    assert page.count("<svg") == 1
    assert "var(--ink)" in page


def test_the_same_content_gives_the_same_page(page: str) -> None:
    assert render(comparison()) == page


def test_seeds_are_shown_one_by_one(page: str) -> None:
    for seed in range(5):
        assert f"<th>seed {seed}</th>" in page
        assert f"/runs/lab/seeds/{seed}" in page


def test_json_has_every_key_and_no_nan() -> None:
    content = comparison()
    content["methods"]["random"]["difference"]["p_value"] = float("nan")
    found = json.loads(to_json(content))
    assert found["methods"]["random"]["difference"]["p_value"] is None
    assert found["why_no_students"] is None
    with pytest.raises(DataError, match="p_vallue"):
        to_json({"methods": {"random": {"difference": {"p_vallue": 1.0}}}})


def test_p_values_are_never_shown_as_zero() -> None:
    assert [p_value(value) for value in (None, 0.0002, 0.0123, 1.0)] == [
        "–",
        "< 0.001",
        "0.012",
        "1.000",
    ]


def test_nothing_measured_is_a_page_too() -> None:
    assert "<svg" in render(comparison() | {"methods": {}})


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path: Path, page: str, browser: Any) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(page, encoding="utf-8")
    requests: list[str] = []
    shown = browser.new_page()
    shown.on("request", lambda request: requests.append(request.url))
    shown.goto(path.as_uri())
    for width in (1200, 420):
        shown.set_viewport_size({"width": width, "height": 900})
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        box = shown.query_selector("figure svg").bounding_box()
        assert box["width"] > 200
        assert box["x"] + box["width"] <= width
    shown.close()
    assert requests == [path.as_uri()]
