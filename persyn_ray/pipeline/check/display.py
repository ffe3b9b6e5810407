"""Findings of a check in, one screen of a terminal out: a mark, what, and what to do."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Console
from rich.table import Table

from persyn_ray.escaping import plain
from persyn_ray.pipeline.check.findings import Finding, problems

MARKS = {"ok": ("✓", "green"), "remark": ("!", "yellow"), "problem": ("✗", "bold red")}
WIDTH = 20  # of the column that says what; longer names go over several lines


def show_findings(findings: Iterable[Finding], console: Console) -> Iterator[Finding]:
    """Print findings as they come, and hand them on; teachers of whom the same holds share one."""
    for _, group in groupby(findings, key=_alike):
        same = list(group)
        what = same[0].what if len(same) == 1 else f"{len(same)} teachers"
        _show(same[0], what, _detail(same), console)
        yield from same


def _alike(finding: Finding) -> tuple[str, str, str]:
    is_teacher = finding.what.startswith("teacher ")
    return (finding.state, "" if is_teacher else finding.what, finding.shared or finding.detail)


def _detail(same: list[Finding]) -> str:
    if len(same) == 1:
        return same[0].detail
    names = ", ".join(finding.what.removeprefix("teacher ") for finding in same)
    return f"{same[0].shared or same[0].detail} {names}."


def _show(finding: Finding, what: str, detail: str, console: Console) -> None:
    mark, style = MARKS[finding.state]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(width=WIDTH, overflow="fold")
    table.add_column(overflow="fold")
    table.add_row(plain(mark, style), plain(what, "bold"), plain(detail))
    if finding.fix is not None:
        table.add_row("", "", plain(f"→ {finding.fix}", "cyan"))
    for sample in finding.samples:
        table.add_row("", "", plain(sample, "dim"))
    console.print(table)


def show_end(findings: list[Finding], recipe: str, console: Console) -> None:
    """What follows from all of them."""
    num = len(problems(findings))
    remarks = sum(finding.state == "remark" for finding in findings)
    also = f" {remarks} remark{'s' if remarks > 1 else ''}." if remarks else ""
    if num:
        text = f"\n{num} problem{'s' if num > 1 else ''}.{also} Nothing was started."
        console.print(plain(text, "bold red"))
    else:
        console.print(plain(f"\nReady: persyn run {recipe}.{also}", "bold green"))
