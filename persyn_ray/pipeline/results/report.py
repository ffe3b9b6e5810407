"""Step report: report.json, report.html and the data set card, from whatever the run holds now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from persyn_ray.escaping import plain
from persyn_ray.models.names import HUB_NAME
from persyn_ray.pipeline import dataset
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.results.run import Content, gather
from persyn_ray.pipeline.runner import versions
from persyn_ray.pipeline.steps import STEP_NAMES
from persyn_ray.recipe.data import DatasetConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report import card, content, html, text
from persyn_ray.report.cards.models import ModelFacts, student_card
from persyn_ray.report.methods import label
from persyn_ray.report.problems import Problems
from persyn_ray.shards.provenance import RoutedRows
from persyn_ray.storage.fits import TUNED_STUDENT_FILE
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import read_record
from persyn_ray.storage.results import SynthesizeResult


def write_report(recipe: Recipe, run: RunLayout, console: Console) -> str:
    """Write the report and print its table; returns the address of report.html.

    What cannot be made of it says why in its place, so it is written for a run in any state.
    """
    gathered = gather(recipe, run, versions())
    run.root.write_text("report.json", content.to_json(gathered))
    run.root.write_text("report.html", html.render(gathered))
    problems = Problems()
    rows = partial(RoutedRows, run, recipe.teachers, recipe.scoring, recipe.responses)
    problems.attempt("card", partial(_write_card, gathered, rows, recipe.dataset, run), None)
    problems.attempt("student card", partial(_write_student_cards, gathered, recipe, run), None)
    console.print()
    console.print(text.console(gathered))
    for part, reason in problems.reasons.items():
        console.print(plain(f"{part}: {reason}", "yellow"))
    return f"{run.root.address}/report.html"


def report_what_stands(console: Console, recipe: Recipe, run: RunLayout) -> None:
    """Write the report of a run that has failed: its error is what matters, and follows."""
    problems = Problems()
    address = problems.attempt("report", partial(write_report, recipe, run, console), None)
    if address is None:
        console.print(plain(f"No report could be written: {problems.reasons['report']}", "yellow"))
    else:
        console.print(plain(f"\nReport of what stands: {address}"))


@contextmanager
def telling_what_stands(console: Console, *runs: RunLayout) -> Iterator[None]:
    """Say, when the work on some runs is interrupted, what of them is finished and kept."""
    try:
        yield
    except KeyboardInterrupt:
        for run in runs:
            if run.records.exists():
                console.print(plain(f"{run.root.address}: {standing(run)}"))
        raise


def standing(run: RunLayout) -> str:
    """Which steps of a run are finished, and which is begun, in a sentence."""
    names = set(run.records.names())
    done = [name for name in STEP_NAMES if f"{name}.json" in names]
    begun = [name for name in STEP_NAMES if f"{name}.begun" in names]
    finished = f"finished and kept: {', '.join(done)}" if done else "no step is finished"
    return f"{finished}." + (
        f" Begun: {', '.join(begun)}; what it has filed stays." if begun else ""
    )


def _write_card(
    gathered: Content, rows: Callable[[], RoutedRows], section: DatasetConfig, run: RunLayout
) -> None:
    if not (run.dataset / "data").exists():
        return
    is_made = read_record(run.records, SynthesizeResult.step) is not None
    if is_made and dataset.is_outdated(run, section):
        dataset.write_dataset(run, rows(), section)
    files, num_examples = dataset.data_files(run, section), dataset.num_examples(run)
    run.dataset.write_text("README.md", card.card(gathered, files, num_examples, section.columns))


def _write_student_cards(gathered: Content, recipe: Recipe, run: RunLayout) -> None:
    """Leave a model card beside the weights of every student."""
    name = recipe.student.name
    is_named = "/" in name and HUB_NAME.fullmatch(name) and not Path(name).exists()
    for method in assigned_methods(recipe.compare):
        if run.student(method).exists(TUNED_STUDENT_FILE):
            facts = ModelFacts(
                f"students/{method}",
                name if is_named else None,
                None,
                method=method,
                title=f"{recipe.name or 'Student'}: tuned on the data of {label(method)}",
            )
            run.student(method).write_text("README.md", student_card(gathered, facts))
