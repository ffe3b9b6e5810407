"""Style of figures: names that fit, and SVG that may stand in a page beside others."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from persyn_ray.report import drawing

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], []),
        (["a-Instruct", "b"], ["a-Instruct", "b"]),
        (["Qwen2.5-Coder-32B-Instruct", "b-chat"], ["Qwen2.5-Coder-32B", "b"]),
        (["some-teacher-of-long-name_IT"], [f"some-te{ELLIPSIS}her-of-long-name"]),
    ],
)
def test_names_lose_what_all_teachers_have(names: list[str], shown: list[str]) -> None:
    assert drawing.short_names(names) == shown


def test_a_teacher_and_its_instruct_twin_are_never_shown_alike() -> None:
    twins = ["Mistral-Small-24B-2501-Instruct", "Mistral-Small-24B-2501"]
    assert len(set(drawing.short_names(twins))) == 2


@given(st.lists(st.text(max_size=60), max_size=5), st.integers(4, 40))
def test_no_name_is_wider_than_asked(names: list[str], width: int) -> None:
    found = drawing.short_names(names, width)
    assert len(found) == len(names)
    assert all(len(name) <= width for name in found)
    if all(len(name) <= width for name in names):
        assert found == names


def svg_of(label: str, description: str = "Shares", name: str = "shares") -> str:
    with drawing.styled():
        figure = Figure(figsize=(2, 1.7))
        axes = figure.subplots()
        drawing.label_rows(axes, [label, "b"], strong="b")
        axes.barh([0, 1], [1, 2], color=drawing.ACCENT)
        drawing.after(axes, 1, 0, "1")
        return drawing.to_svg(figure, name, description)


def test_a_figure_has_no_size_of_its_own_and_the_colours_of_the_page() -> None:
    svg = svg_of("a")
    opening = svg[: svg.index(">")]
    assert " width=" not in opening
    assert 'role="img"' in opening
    assert "var(--ink)" in svg
    assert not any(colour in svg for colour in drawing.VARIABLES)
    assert "<metadata>" not in svg


@pytest.mark.parametrize("label", ["$x_1$ & <b>", "a\\frac{1}{2}", "教师", "$", '100 % "so"'])
def test_a_label_stays_text_whatever_it_holds(label: str) -> None:
    svg = svg_of(label)
    shown = label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown in svg


@pytest.mark.parametrize("told", ['"><script>', "a & b", r"back\1slash\g<0>"])
def test_a_description_cannot_leave_its_attribute(told: str) -> None:
    found = re.search('aria-label="([^"]*)"', svg_of("a", told))
    assert found is not None
    plain = found[1].replace("&lt;", "<").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == told


def test_ids_of_two_figures_differ_and_a_figure_is_drawn_the_same_again() -> None:
    one, again, other = svg_of("a"), svg_of("a"), svg_of("a", name="costs")
    assert one == again
    ids = [set(re.findall(r'<(?:path|clipPath) id="([^"]*)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_an_unmeasured_mean_draws_nothing_and_one_without_bounds_a_dot() -> None:
    axes = Figure().subplots()
    drawing.dot(axes, 0, None, drawing.ACCENT)
    drawing.dot(axes, 0, {"value": None, "low": None, "high": None}, drawing.ACCENT)
    assert not axes.lines
    drawing.dot(axes, 0, {"value": 0.5, "low": None, "high": None}, drawing.ACCENT)
    assert len(axes.lines) == 1
    drawing.dot(axes, 1, {"value": 0.5, "low": 0.4, "high": 0.7}, drawing.ACCENT)
    assert len(axes.lines) == 3
    assert list(axes.lines[1].get_xdata()) == [0.4, 0.7]


def test_a_band_leaves_out_what_was_not_measured() -> None:
    axes = Figure().subplots()
    estimates = [
        {"value": 0.1, "low": 0.0, "high": 0.2},
        None,
        {"value": None, "low": None, "high": None},
        {"value": 0.4, "low": None, "high": None},
    ]
    drawing.band(axes, [1, 2, 3, 4], estimates, drawing.ACCENT)
    assert list(axes.lines[0].get_xdata()) == [1, 4]
    assert list(axes.lines[0].get_ydata()) == [0.1, 0.4]


@pytest.mark.parametrize(("num", "inches"), [(0, 1.7), (1, 1.7), (10, 3.6), (19, 6.21)])
def test_a_chart_grows_by_rows_and_is_never_flat(num: int, inches: float) -> None:
    assert drawing.rows_height(num) == pytest.approx(inches)
