"""The last screen of a run: its content in; results, warnings and what to do next out."""

from collections.abc import Mapping
from functools import partial
from shlex import quote
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from persyn_ray.escaping import plain
from persyn_ray.report import numbers
from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import Report, displayed
from persyn_ray.report.estimate import Bounded, verdict
from persyn_ray.report.methods import selects
from persyn_ray.report.problems import Problems
from persyn_ray.report.summary import Row, headline, paragraph

CAPTION = "Below the line: selected among the responses of all teachers."
COLOURS = {"higher": "green", "lower": "red", "unclear": "dim", "unmeasured": "dim"}


def console(content: Mapping[str, Any]) -> Group:
    """The results by method (data right, routed reward, student accuracy), then warnings, the
    summary, and what could not be made.

    Raises:
        DataError: the content does not fit persyn_ray.report.content.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    table = problems.attempt("page.results", partial(_results, report), [])
    warnings = problems.attempt("page.concerns", partial(concerns, report), [])
    told = [_marked("!", warning, "yellow") for warning in warnings]
    summary = paragraph(report, problems, with_concerns=False)
    sentences = [plain(sentence, "dim") for sentence in summary]
    missing = [plain(f"{part}: {why}", "yellow") for part, why in problems.reasons.items()]
    return Group(*table, *told, *sentences, *missing)


def next_steps(address: str, has_data: bool, has_router: bool) -> Group:
    """What one may do with a run now.

    Args:
        address: of the run folder.
        has_data: whether its data set is written.
        has_router: whether its router is fitted.
    """
    run = quote(address)
    steps = {f"persyn view {run}": "every prompt and its responses in the browser"}
    if has_data:
        steps[f"persyn export {run} --to trl"] = "the data as a trainer reads it"
    if has_router:
        steps[f"persyn serve {run}"] = "the router as an endpoint, with a page to try it"
    lines = [
        Text.assemble("  ", plain(command, "bold"), "   ", plain(why, "dim"))
        for command, why in steps.items()
    ]
    return Group(Text(), Text("Next:"), *lines)


def _marked(mark: str, sentence: str, style: str) -> Table:
    """A sentence behind a mark, its further lines below its first."""
    table = Table.grid(padding=(0, 1))
    table.add_row(plain(mark, style), plain(sentence, style))
    return table


def _results(report: Report) -> list[Any]:
    rows, run = headline(report), report["run"]
    title = (run["name"] if run else None) or "PerSyn run"
    return [_table(rows, title), Text()] if rows else []


def _table(rows: list[Row], title: str) -> Table:
    table = Table(title=plain(title), title_justify="left", header_style="bold", show_edge=False)
    table.caption_justify = "left"
    table.add_column("data from", no_wrap=True)
    for name in ("share of data right", "routed reward", "student accuracy", "PerSyn minus this"):
        table.add_column(name, justify="right")
    for place, row in enumerate(rows):
        if selects(row.method) and place and not selects(rows[place - 1].method):
            table.add_section()
            table.caption = CAPTION
        table.add_row(
            plain(row.label),
            numbers.number(row.correct_share),
            numbers.estimate(row.reward),
            numbers.estimate(row.accuracy),
            Text(_difference(row.difference), style=COLOURS[verdict(row.difference)]),
            style="bold" if row.method == "persyn" else "",
        )
    return table


def _difference(value: Bounded | None) -> str:
    if value is None or value["value"] is None:
        return numbers.NOTHING
    bounds = numbers.interval(value)
    return numbers.signed(value["value"]) + ("" if bounds == numbers.NOTHING else f" ({bounds})")
