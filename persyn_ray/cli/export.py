"""`persyn export`: a run's data in the form that a trainer reads."""

from typing import Annotated

import typer

from persyn_ray.cli.shared import RunFolder, console, linked
from persyn_ray.escaping import plain
from persyn_ray.exports.on_policy.settings import OnPolicySettings, OtherTokenizers, named


def export(
    run_folder: RunFolder,
    to: Annotated[str, typer.Option(help="Form, such as trl; an unknown one lists all.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder to write; RUN/exports/FORM if not given."),
    ] = None,
    teacher_model: Annotated[
        list[str] | None,
        typer.Option(help="On-policy forms: NAME=MODEL, the model of a teacher; repeat it."),
    ] = None,
    teacher_url: Annotated[
        list[str] | None,
        typer.Option(help="On-policy forms: NAME=URL, a teacher's server; repeat it."),
    ] = None,
    other_tokenizers: Annotated[
        OtherTokenizers,
        typer.Option(help="On-policy forms: rows whose teacher has another tokenizer."),
    ] = "leave-out",
) -> None:
    """Write a run's data in the form that a trainer reads."""
    from persyn_ray.pipeline.export import export_run

    on_policy = OnPolicySettings(
        models=named("--teacher-model", teacher_model or ()),
        urls=named("--teacher-url", teacher_url or ()),
        other_tokenizers=other_tokenizers,
    )
    done = export_run(run_folder, to, out, on_policy)
    for remark in done.remarks:
        console.print(plain(remark, "yellow"))
    rows = f"{done.written.num_rows:,} rows" if done.written.num_rows else "the files"
    console.print(linked(f"Wrote {rows} to ", done.folder.address), soft_wrap=True)
