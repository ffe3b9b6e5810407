"""`persyn route`: a teacher for every row of a table of prompts, by a saved router."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from persyn_ray.cli.shared import console, log_to_terminal
from persyn_ray.escaping import one_line, plain

if TYPE_CHECKING:
    from persyn_ray.routing.assemble import Routed


def route(
    source: Annotated[str, typer.Argument(help="A run folder, or a folder with a fitted router.")],
    tables: Annotated[
        list[str],
        typer.Argument(help="Parquet, jsonl, json, csv or tsv files with prompts, or globs."),
    ],
    out: Annotated[str, typer.Option("--output", "-o", help="Parquet file to write.")],
    column: Annotated[
        str | None,
        typer.Option(help="Column with the prompt: text, or a conversation. Found if not given."),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="How plain text becomes the user message; the run's own.")
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="System message before plain text; the run's own.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Column with the prompt's task label; the run's own, if it is there."),
    ] = None,
    capacity: Annotated[
        list[str] | None, typer.Option(help="TEACHER=N: most rows of a teacher; repeat it.")
    ] = None,
    min_share: Annotated[
        float | None, typer.Option(help="Least share of the rows for every teacher.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A teacher that gets nothing; repeat it.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of added columns.")] = "",
    seed: Annotated[int, typer.Option(help="Of the draw among equals.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Copies of the router.")] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="CPUs of a worker.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="GPUs of a worker.")] = None,
    verbose: Annotated[bool, typer.Option(help="Show the workers' logs.")] = False,
) -> None:
    """Route an existing table of prompts: every row, all its columns, and a teacher."""
    from persyn_ray.routing.limits import limits_of
    from persyn_ray.routing.run import Asked, prepare, resources_of, route_table
    from persyn_ray.runtime.session import session

    log_to_terminal(verbose)
    limits = limits_of(capacity or (), min_share)
    masked = tuple(without or ())
    asked = Asked(column, template, system_prompt, task, masked, limits, seed, prefix)
    prepared = prepare(source, tables, out, asked)
    with session(verbose) as cluster:
        routed = route_table(prepared, resources_of(cluster, workers, cpus, gpus), console)
    _show(prepared.rule.teachers, routed, out)


def _show(teachers: Sequence[str], routed: "Routed", out: str) -> None:
    """How many rows each teacher got, and what was written."""
    table = Table("teacher", "rows", "share", header_style="bold", show_edge=False)
    total = max(sum(routed.prompts.values()), 1)
    for name in teachers:
        num = routed.prompts[name]
        table.add_row(plain(one_line(name, 80)), f"{num:,}", f"{num / total:.1%}")
    console.print(table)
    told = f"Wrote {routed.num_rows:,} rows to {Path(out) if '://' not in out else out}."
    if routed.num_novel is not None:
        told += f" {routed.num_novel:,} are unlike the parallel set."
    if routed.refused:
        reasons = ", ".join(f"{name} {num:,}" for name, num in routed.refused.most_common())
        told += f" Without a teacher: {reasons}; the first: {routed.first_refused}"
    console.print(plain(told))
