"""`persyn push`: a run's data set, router or student to the Hub, with its card."""

from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from persyn_ray.cli.shared import RunFolder, console, log_to_terminal
from persyn_ray.errors import PersynError
from persyn_ray.escaping import one_line, plain


class What(StrEnum):
    """Parts of a run that have a repository of their own."""

    dataset = "dataset"
    router = "router"
    student = "student"


def push(
    run: RunFolder,
    target: Annotated[str, typer.Argument(help="hub:ORG/NAME")],
    what: Annotated[What, typer.Option(help="What of the run.")] = What.dataset,
    private: Annotated[bool, typer.Option("--private", help="For you and ORG alone.")] = False,
    licence: Annotated[
        str | None, typer.Option(help="Of what is pushed; the teachers' for a data set.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files; send nothing.")
    ] = False,
) -> None:
    """Push a run's data set, router or student to the Hub; the same command resumes."""
    from persyn_ray.exports.licences import licence_remarks
    from persyn_ray.hub.contents import Pushed, sizes, staged
    from persyn_ray.hub.names import address_of
    from persyn_ray.hub.push import push as send
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.storage.folder import Folder
    from persyn_ray.storage.layout import RunLayout

    log_to_terminal(False)
    address = address_of(target)
    pushed = Pushed(what.value, RunLayout(Folder.absolute(run)), address, licence)
    with staged(pushed) as folder:
        files = sizes(folder)
        table = Table("file", "bytes", header_style="bold", show_edge=False)
        for name, size in files.items():
            table.add_row(plain(one_line(name, 120)), f"{size:,}")
        console.print(table)
        with suppress(PersynError):  # a recipe that is not read any more hinders no push
            for remark in licence_remarks(open_run(run)[0].teachers):
                console.print(plain(remark, "yellow"))
        total = f"{len(files):,} files, {sum(files.values()):,} bytes"
        if dry_run:
            console.print(plain(f"{total}. Nothing was sent to {address}."))
            return
        place = send(pushed, folder, private)
    console.print(plain(f"{total} at {place}"))
