"""`persyn import-gsm8k`, `import-zoo` and `import-parallel`: public tables as recipes read them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from persyn_ray.cli.shared import console
from persyn_ray.errors import ConfigError
from persyn_ray.escaping import one_line, plain

Sources = Annotated[list[str], typer.Argument(help="Parquet, jsonl or csv files, or globs.")]
NewFolder = Annotated[Path, typer.Argument(help="Folder to write.")]


def import_gsm8k(
    solutions: Annotated[Path, typer.Argument(help="example_model_solutions.jsonl")],
    responses: Annotated[Path, typer.Argument(help="gsm8k_responses.csv")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
) -> None:
    """Build the table of recorded GSM8K answers from its public sources."""
    from persyn_ray.data.importers.gsm8k import write_gsm8k_parallel
    from persyn_ray.storage.atomic_files import writing_to

    with writing_to(out):
        num_rows = write_gsm8k_parallel(solutions, responses, out)
    console.print(plain(f"Wrote {num_rows:,} rows to {out}."))


def import_zoo(sources: Sources, out: NewFolder) -> None:
    """Bring Magpie-100K-Generator-Zoo, with its reward scores, into the form recipes read."""
    from persyn_ray.data.importers.parallel_responses import import_zoo as convert

    _show_import(convert(sources, out), out)


def import_parallel(
    sources: Sources,
    out: NewFolder,
    prompt_column: Annotated[str | None, typer.Option(help="Column with the prompt.")] = None,
    answer_column: Annotated[str | None, typer.Option(help="Column with the answer.")] = None,
    teacher_column: Annotated[str | None, typer.Option(help="Long table: who responded.")] = None,
    response_column: Annotated[str | None, typer.Option(help="Long table: the response.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Wide table: a column of responses; repeat it.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            help="Files of another tool: distilabel, curator, datatrove, openai-batch, verl, "
            "nemo-rl or nemo-gym."
        ),
    ] = None,
    teacher_name: Annotated[
        str | None, typer.Option(help="With --form: who wrote, where the files do not say it.")
    ] = None,
) -> None:
    """Bring a table of parallel responses, such as PerSyn-Math, into the form recipes read."""
    from persyn_ray.data.importers.forms import import_form
    from persyn_ray.data.importers.parallel_responses import import_parallel as convert

    columns = {
        "prompt_column": prompt_column,
        "answer_column": answer_column,
        "teacher_column": teacher_column,
        "response_column": response_column,
    }
    if form is None:
        if teacher_name is not None:
            raise ConfigError("--teacher-name goes with --form; tables name their teachers.")
        _show_import(convert(sources, out, **columns, teachers=teacher or ()), out)
        return
    named = [name for name, column in columns.items() if column is not None]
    if named or teacher:
        raise ConfigError(f"--form {form} says where everything stands: leave out the columns.")
    _show_import(import_form(sources, out, form, teacher_name), out)


def _show_import(imported: Any, out: Path) -> None:
    table = Table("teacher", "responses", "absent", header_style="bold", show_edge=False)
    for name, num in imported.num_responses.items():
        table.add_row(plain(one_line(name, 80)), f"{num:,}", f"{imported.num_prompts - num:,}")
    console.print(table)
    told = (
        f"Wrote {imported.num_prompts:,} prompts to {out}. Kept in further/: "
        f"{imported.num_further:,} further responses to a prompt. Left out: "
        f"{imported.num_unreadable:,} rows, responses or scores that cannot be read."
    )
    console.print(plain(told))
    if imported.first_unreadable:
        console.print(plain(f"The first that cannot be read: {imported.first_unreadable}"))
