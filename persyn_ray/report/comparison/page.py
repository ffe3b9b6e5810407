"""A comparison as people read it: one table and one figure as a page, Markdown, or in the terminal.

A difference counts as clear only when its adjusted p-value is below 0.05, or, where it has none,
when its interval excludes zero. Nothing is computed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from persyn_ray.escaping import plain
from persyn_ray.report import drawing, numbers
from persyn_ray.report.comparison.content import ACCURACY, Comparison, displayed, has_students
from persyn_ray.report.comparison.sentences import adjusted_verdict, sentences
from persyn_ray.report.drawing import INK, WIDTH
from persyn_ray.report.estimate import Bounded, Verdict
from persyn_ray.report.markdown import markdown_code, markdown_text
from persyn_ray.report.methods import label, ordered
from persyn_ray.report.problems import Problems
from persyn_ray.report.templates import report_environment
from persyn_ray.report.text import COLOURS

CLEAR = 0.001


@dataclass(frozen=True)
class Cell:
    """A figure, its 95 % interval where it has one, and what it allows one to claim."""

    text: str
    bounds: str = ""
    verdict: Verdict = "unmeasured"

    @property
    def line(self) -> str:
        """The figure with its interval in one line."""
        return f"{self.text} ({self.bounds})" if self.bounds else self.text


@dataclass(frozen=True)
class Line:
    """One method of the table."""

    method: str
    label: str
    cells: tuple[Cell, ...]


def render(content: Mapping[str, Any]) -> str:
    """The page for the content of a comparison.json; it asks for nothing from outside.

    Raises:
        DataError: the content does not fit persyn_ray.report.comparison.content.
    """
    found = displayed(content)
    environment = report_environment()
    problems = Problems(found["problems"])
    environment.filters |= {"label": label, "ordered": ordered}
    return environment.get_template("comparison/page.html").render(
        **found,
        figure=Markup(problems.attempt("figure", partial(draw, found), "")),
        reasons=problems.reasons,
        titles=titles(found),
        lines=lines(found),
        sentences=sentences(found),
    )


def markdown(content: Mapping[str, Any]) -> str:
    """The same table and sentences as Markdown.

    Raises:
        DataError: the content does not fit persyn_ray.report.comparison.content.
    """
    found = displayed(content)
    rows = [(line.label, *(cell.line for cell in line.cells)) for line in lines(found)]
    table = [titles(found), ("---", *["---:"] * (len(titles(found)) - 1)), *rows]
    return "\n".join(
        [
            f"# {markdown_text(found['name'] or 'Comparison')}",
            "",
            *(f"| {' | '.join(map(markdown_text, row))} |" for row in table),
            "",
            *(f"- {markdown_text(sentence)}" for sentence in sentences(found)),
            *(
                f"- {markdown_code(part)} could not be made: {markdown_text(reason)}"
                for part, reason in found["problems"].items()
            ),
            "",
        ]
    )


def console(content: Mapping[str, Any]) -> Group:
    """The same table and sentences for the terminal.

    Raises:
        DataError: the content does not fit persyn_ray.report.comparison.content.
    """
    found = displayed(content)
    title = found["name"] or "Comparison"
    table = Table(title=plain(title), title_justify="left", header_style="bold", show_edge=False)
    for place, name in enumerate(titles(found)):
        table.add_column(name, justify="right" if place else "left", no_wrap=not place)
    for line in lines(found):
        cells = [Text(cell.line, style=COLOURS[cell.verdict]) for cell in line.cells]
        table.add_row(plain(line.label), *cells, style="bold" if line.method == "persyn" else "")
    said = [plain(one, "dim") for one in sentences(found)]
    missing = [plain(f"{part}: {why}", "yellow") for part, why in found["problems"].items()]
    return Group(table, Text(), *said, *missing)


def titles(content: Comparison) -> tuple[str, ...]:
    """The table's columns; those of students are left out where there are none."""
    first = ("data from", content["metric"] or ACCURACY, "PerSyn minus this", "p (Holm)")
    return first + (("routed reward", "data right", "examples") if has_students(content) else ())


def lines(content: Comparison) -> list[Line]:
    """The table's rows, in the order of every table and figure."""
    found: list[Line] = []
    for method in ordered(content["methods"]):
        facts = content["methods"][method]
        difference = facts["difference"]
        cells = [
            Cell(*_estimate(facts["mean"])),
            Cell(*_difference(difference), adjusted_verdict(difference)),
            Cell(p_value(difference["p_holm"] if difference else None)),
        ]
        if has_students(content):
            cells += [
                Cell(*_estimate(facts["routed_reward"])),
                Cell(numbers.number(facts["correct_share"])),
                Cell(numbers.count(facts["num_examples"])),
            ]
        found.append(Line(method, label(method), tuple(cells)))
    return found


def p_value(value: float | None) -> str:
    """A p-value with three decimals, and no zero."""
    return f"< {CLEAR}" if value is not None and value < CLEAR else numbers.number(value, 3)


def draw(content: Comparison) -> str:
    """A mean with its interval for each method, beside PerSyn minus it, as inline SVG."""
    names = [name for name in ordered(content["methods"]) if content["methods"][name]["mean"]]
    with drawing.styled():
        figure = Figure(figsize=(WIDTH, drawing.rows_height(len(names), 0.36, 0.85)))
        means, differences = figure.subplots(1, 2, sharey=True)
        for row, name in enumerate(names):
            facts, colour = content["methods"][name], drawing.method_colour(name)
            _seeds(means, row, facts["by_seed"], colour)
            drawing.dot(means, row, facts["mean"], colour)
            drawing.dot(differences, row, facts["difference"], colour)
        differences.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0.5)
        labels = [label(name) for name in names]
        drawing.label_rows(means, labels, strong=label("persyn"))
        means.set_yticks(range(len(labels)), labels)  # in full: methods have no long names
        drawing.unlabelled_rows(differences)
        metric = content["metric"] or ACCURACY
        for axes, title in ((means, metric), (differences, "PerSyn minus this")):
            drawing.value_grid(axes, bins=4)
            axes.margins(x=0.08)
            axes.set_title(title)
        drawing.panel_gap(figure, 0.12)
        described = f"{metric} of each method, and PerSyn minus it, with 95 % intervals."
        return drawing.to_svg(figure, "comparison", described)


def _seeds(axes: Any, row: float, values: list[float | None], colour: str) -> None:
    """Every seed's own mean as a small pale dot below the line of its method."""
    known = [value for value in values if value is not None]
    if len(known) > 1:
        places = [row + 0.25] * len(known)
        axes.plot(known, places, "o", color=colour, markersize=2.6, alpha=0.55, clip_on=False)


def _estimate(value: Bounded | None) -> tuple[str, str]:
    return numbers.number(value["value"] if value else None), _bounds(value)


def _difference(value: Bounded | None) -> tuple[str, str]:
    return numbers.signed(value["value"] if value else None), _bounds(value)


def _bounds(value: Bounded | None) -> str:
    bounds = numbers.interval(value)
    return "" if bounds == numbers.NOTHING else bounds
