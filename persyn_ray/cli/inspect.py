"""`persyn status`, `report`, `explain` and `doctor`: look into a run."""

from typing import Annotated

import typer
from rich.table import Table

from persyn_ray.cli.shared import (
    AsJson,
    Overrides,
    RecipePath,
    RunFolder,
    console,
    linked,
    print_json,
)
from persyn_ray.escaping import plain


def status(run_folder: RunFolder, as_json: AsJson = False) -> None:
    """Which steps of a run are finished, when, and with how many rows."""
    from persyn_ray.pipeline.results.costs import spending_text
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.status import status_of

    recipe, run = open_run(run_folder)
    found = status_of(recipe.teachers, recipe.scoring, run)
    if as_json:
        print_json(found)
        return
    table = Table("step", "finished", "rows", "seconds", header_style="bold", show_edge=False)
    for name, step in found["steps"].items():
        when = step["finished"] or ("–" if step["state"] == "to do" else step["state"])
        rows = "" if step["rows"] is None else f"{step['rows']:,}"
        seconds = "" if step["seconds"] is None else f"{step['seconds']:.1f}"
        table.add_row(name, plain(when), rows, seconds)
    console.print(table)
    for account, of in found["spending"].items():
        console.print(f"{account}: {spending_text(of)}", markup=False)
    if found["at_work"]:
        console.print(plain(f"\nAt work, as far as known: {found['at_work']}."))
    if found["error"]:
        console.print(plain(f"\nThe last attempt ended with an error: {found['error']}"))


def report(run_folder: RunFolder) -> None:
    """Write report.html and report.json anew from what a run holds."""
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.report import write_report

    recipe, opened = open_run(run_folder)
    console.print(linked("\nReport: ", write_report(recipe, opened, console)), soft_wrap=True)


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
