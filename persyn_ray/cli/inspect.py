"""`persyn status`, `report`, `explain` and `doctor`: look into a run."""

from typing import Annotated, Any

import typer
from rich.table import Table

from persyn_ray.cli.shared import Overrides, RecipePath, RunFolder, console, linked
from persyn_ray.escaping import plain


def status(run_folder: RunFolder) -> None:
    """Which steps of a run are finished, when, and with how many rows."""
    from persyn_ray.pipeline.results.costs import spending, spending_text
    from persyn_ray.pipeline.results.explain import open_run, state
    from persyn_ray.storage.layout import parts_of
    from persyn_ray.storage.run_lock import holder_of

    recipe, opened = open_run(run_folder)
    table = Table("step", "finished", "rows", "seconds", header_style="bold", show_edge=False)
    for name, record in state(opened):
        if record is None:
            table.add_row(name, _unfinished(opened.records, name), "", "")
        else:
            rows = f"{record.counts.get('rows', 0):,}"
            table.add_row(name, plain(record.finished), rows, f"{record.seconds:.1f}")
    console.print(table)
    paid = spending(recipe.teachers, parts_of(recipe.scoring), opened.ledger, None)
    for account, of in (paid["accounts"] if paid else {}).items():
        console.print(f"{account}: {spending_text(of)}", markup=False)
    if holder := holder_of(opened.attempts):
        console.print(plain(f"\nAt work, as far as known: {holder}."))


def _unfinished(records: Any, step: str) -> str:
    """How far a step without a record is."""
    if not records.exists(f"{step}.begun"):
        return "–"
    # An empty mark: it was done, and what it read has changed since.
    return "begun, not finished" if records.read_text(f"{step}.begun") else "outdated"


def report(run_folder: RunFolder) -> None:
    """Write report.html and report.json anew from what a run holds."""
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.report import write_report

    recipe, opened = open_run(run_folder)
    console.print(linked("\nReport: ", write_report(recipe, opened, console)))


def explain(
    run_folder: RunFolder,
    prompt_id: Annotated[str, typer.Argument(help="A prompt's id, or its beginning.")],
) -> None:
    """Why a prompt went to its teacher: signals, rewards, router logits and responses."""
    from persyn_ray.pipeline.results.explain import explain as explain_prompt
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.explain_display import show_prompt

    show_prompt(explain_prompt(*open_run(run_folder), prompt_id), console)


def doctor_scoring(
    recipe: RecipePath,
    overrides: Overrides = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts whose responses are scored.")] = 16,
) -> None:
    """Whether every way to score the student's likelihoods agrees, on a run's own responses."""
    from persyn_ray.pipeline.doctor import COLUMNS, cells, examine
    from persyn_ray.recipe.recipe import load_recipe

    table = Table(*COLUMNS, header_style="bold", show_edge=False)
    for verdict in examine(load_recipe(recipe, tuple(overrides or ())), prompts):
        console.print(plain(f"  {verdict.backend}: {verdict.note or 'done'}", "dim"))
        table.add_row(*map(plain, cells(verdict)))
    console.print(table)
