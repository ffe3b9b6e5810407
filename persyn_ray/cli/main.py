"""The command line: persyn run | compare | plan | status | report | explain | doctor | init | …

Only what a command needs is imported, inside the command: `persyn --help` loads neither torch nor
ray.
"""

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from persyn_ray import __version__
from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import PersynError
from persyn_ray.escaping import one_line, plain, visible, visible_logs
from persyn_ray.signals import (
    INTERRUPTED,
    TERMINATED,
    is_terminated,
    keep_exit_code,
    take_sigterm,
)

app = typer.Typer(
    name="persyn",
    help="Send each prompt to the teacher your student will learn most from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lab = typer.Typer(help="The tiny trained world that the quickstart runs in.", no_args_is_help=True)
app.add_typer(lab, name="lab")
doctor = typer.Typer(help="Checks of this machine and of a run.", no_args_is_help=True)
app.add_typer(doctor, name="doctor")
console = Console()

RecipePath = Annotated[Path, typer.Argument(help="A recipe (YAML).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, in place of what the recipe says.")
]
RunFolder = Annotated[str, typer.Argument(help="A run folder.")]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options before any command."""
    if version:
        console.print(f"persyn-ray {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Do this step and later ones anew.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this step.")] = None,
    verbose: Annotated[bool, typer.Option(help="Show the workers' logs.")] = False,
) -> None:
    """Carry out a recipe; what is finished is kept, what was interrupted goes on."""
    from persyn_ray.pipeline.results.report import (
        report_what_stands,
        telling_what_stands,
        write_report,
    )
    from persyn_ray.pipeline.runner import run_recipe
    from persyn_ray.recipe.recipe import load_recipe
    from persyn_ray.storage.layout import run_of

    _log(verbose)
    given = tuple(overrides or ())
    loaded = load_recipe(recipe, given)
    with telling_what_stands(console, run_of(loaded)):
        done = run_recipe(
            loaded,
            console,
            overrides=given,
            start=start,
            until=until,
            verbose=verbose,
            when_failed=partial(report_what_stands, console),
        )
        if until in (None, "report"):
            console.print(_linked("\nReport: ", write_report(loaded, done, console)))


@app.command()
def compare(
    recipe: RecipePath,
    overrides: Overrides = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Methods beside PerSyn, by commas; by default compare.methods."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Whole runs, each with another seed.")] = 3,
    verbose: Annotated[bool, typer.Option(help="Show the workers' logs.")] = False,
) -> None:
    """Run PerSyn and other methods on several seeds; one table and figure with intervals."""
    from persyn_ray.pipeline.compare import compare as compare_methods
    from persyn_ray.pipeline.compare import seed_runs
    from persyn_ray.pipeline.results.report import telling_what_stands
    from persyn_ray.recipe.recipe import load_recipe
    from persyn_ray.storage.layout import run_of

    _log(verbose)
    given = tuple(overrides or ())
    names = [name.strip() for option in methods or () for name in option.split(",")]
    loaded = load_recipe(recipe, given)
    with telling_what_stands(console, *seed_runs(run_of(loaded), seeds)):
        done = compare_methods(loaded, console, names, seeds, overrides=given, verbose=verbose)
    console.print(_linked("\nComparison: ", f"{done.root.address}/comparison.html"))


def _linked(text: str, address: str) -> Text:
    """An address that a terminal may open; remote ones are only shown."""
    link = "" if "://" in address else f"link {Path(address).absolute().as_uri()}"
    return Text.assemble(plain(text), plain(address, link))


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="NODESxGPUSxGIB, such as 2x8x80, in place of the recipe's hardware."),
    ] = None,
) -> None:
    """Say what a recipe will do, need and cost, without starting anything."""
    from persyn_ray.pipeline.plan.display import show
    from persyn_ray.pipeline.plan.plan import on_cluster, plan_run
    from persyn_ray.recipe.recipe import load_recipe

    given = tuple(overrides or ())
    loaded = load_recipe(recipe, given)
    show(plan_run(on_cluster(loaded, cluster) if cluster else loaded, given), console)


@app.command()
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
    paid = spending(recipe.teachers, parts_of(recipe), opened.ledger, None)
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


@app.command()
def report(run_folder: RunFolder) -> None:
    """Write report.html and report.json anew from what a run holds."""
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.report import write_report

    recipe, opened = open_run(run_folder)
    console.print(_linked("\nReport: ", write_report(recipe, opened, console)))


@app.command()
def explain(
    run_folder: RunFolder,
    prompt_id: Annotated[str, typer.Argument(help="A prompt's id, or its beginning.")],
) -> None:
    """Why a prompt went to its teacher: signals, rewards, router logits and responses."""
    from persyn_ray.pipeline.results.explain import explain as explain_prompt
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.pipeline.results.explain_display import show_prompt

    show_prompt(explain_prompt(*open_run(run_folder), prompt_id), console)


@doctor.command("scoring")
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


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a short commented recipe to start from."""
    from persyn_ray.errors import ConfigError
    from persyn_ray.storage import atomic_files

    template = files("persyn_ray.recipe").joinpath("template.yaml").read_bytes()
    with atomic_files.writing_to(path):
        if not atomic_files.create(str(path.absolute()), template):
            raise ConfigError(f"{path} is there already; choose another name.")
    console.print(plain(f"Wrote {path}. `persyn plan {path}` says what it will do."))


@app.command()
def schema() -> None:
    """Print the recipe's JSON schema, for editors."""
    from persyn_ray.recipe.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@app.command()
def serve(
    source: Annotated[str, typer.Argument(help="A run folder, or a folder with a fitted router.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="serving.key=value, in place of the recipe's.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file with settings of `serving`.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 127.0.0.1 here, 0.0.0.0 (all) on a cluster."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    plain_proxy: Annotated[
        bool, typer.Option(help="Ray Serve's own proxy in place of HAProxy.")
    ] = False,
    verbose: Annotated[bool, typer.Option(help="Show the replicas' logs.")] = False,
) -> None:
    """Serve a run's router: who should answer this prompt? With a page to try it."""
    from persyn_ray.runtime.serve_command import Address, is_local, start, wait
    from persyn_ray.serving.router_source import read_settings, settings_of, with_a_key

    _log(verbose)
    given = read_settings(settings) if settings is not None else {}
    router, chosen = settings_of(source, given, tuple(overrides or ()))
    # A cluster's replicas have keys of their own environment, and keep those they have.
    chosen, key = with_a_key(chosen) if is_local() else (chosen, None)
    address = Address(host or ("127.0.0.1" if is_local() else "0.0.0.0"), port)
    start(router, chosen, address, plain_proxy, verbose)
    console.print(plain(f"\nRouter {router}\nserves at {address.url}"))
    if key is not None:
        console.print(f"API key made for this time: {key}", highlight=False, soft_wrap=True)
    wait()


@app.command()
def key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make an API key for the endpoint: the key itself, and the line that lets it in."""
    from persyn_ray.serving.middleware.api_keys import new_key

    made, digest = new_key()
    typer.echo(f"{made}\n{name}:{digest}")
    note = "The first line is for the client and shown only now; the second for serving.keys_file."
    Console(stderr=True).print(note)


@app.command("import-gsm8k")
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


@lab.command("build")
def lab_build(
    out: Annotated[Path, typer.Argument(help="Folder for the checkpoints.")] = Path("lab"),
    seed: Annotated[int, typer.Option(help="Seed of data and weights.")] = 0,
) -> None:
    """Train the lab's teachers and students anew (about half an hour on two cores)."""
    from persyn_ray.errors import ConfigError

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder.")
    from persyn_ray.lab.build import build

    build(out, seed=seed)


Sources = Annotated[list[str], typer.Argument(help="Parquet, jsonl or csv files, or globs.")]
NewFolder = Annotated[Path, typer.Argument(help="Folder to write.")]


@app.command("import-zoo")
def import_zoo(sources: Sources, out: NewFolder) -> None:
    """Bring Magpie-100K-Generator-Zoo, with its reward scores, into the form recipes read."""
    from persyn_ray.data.importers.parallel_responses import import_zoo as convert

    _show_import(convert(sources, out), out)


@app.command("import-parallel")
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
) -> None:
    """Bring a table of parallel responses, such as PerSyn-Math, into the form recipes read."""
    from persyn_ray.data.importers.parallel_responses import import_parallel as convert

    columns = {
        "prompt_column": prompt_column,
        "answer_column": answer_column,
        "teacher_column": teacher_column,
        "response_column": response_column,
    }
    _show_import(convert(sources, out, **columns, teachers=teacher or ()), out)


def _show_import(imported: Any, out: Path) -> None:
    table = Table("teacher", "responses", "absent", header_style="bold", show_edge=False)
    for name, num in imported.num_responses.items():
        table.add_row(plain(one_line(name, 80)), f"{num:,}", f"{imported.num_prompts - num:,}")
    console.print(table)
    told = (
        f"Wrote {imported.num_prompts:,} prompts to {out}. Left out: "
        f"{imported.num_duplicates:,} further responses to a prompt, {imported.num_unreadable:,} "
        "rows, responses or scores that cannot be read."
    )
    console.print(plain(told))
    if imported.first_unreadable:
        console.print(plain(f"The first that cannot be read: {imported.first_unreadable}"))


def _log(verbose: bool) -> None:
    """Log to the terminal; libraries put addresses into their lines, with what may be in them."""
    visible_logs(logging.INFO if verbose else logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_cut_record)


def _cut_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = cut_secrets(record.getMessage()), None
    return True


def _show_fault(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A fault of ours, which nobody foresaw: a traceback without secrets, as visible text."""
    told = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(visible(cut_secrets(told)))


def entry() -> None:
    """The `persyn` command: known errors are one message, without a traceback."""
    if (
        sys.getfilesystemencoding() != "utf-8"
    ):  # names and texts of files are UTF-8, here and in workers
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONUTF8": "1"})
    sys.excepthook = _show_fault
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode shows what it can
            stream.reconfigure(errors="replace")
    take_sigterm()
    sys.exit(guarded(app))


def guarded(command: Callable[[], Any]) -> int:
    """Carry out a command; returns its exit code, or ends with that of an interruption."""
    screen = Console(stderr=True)
    try:
        command()
    except PersynError as error:
        screen.print(Text.assemble((f"{type(error).__name__}: ", "bold red"), visible(error)))
        return 1
    except SystemExit as ending:  # typer ends the process itself, also after Ctrl-C
        if ending.code != INTERRUPTED:
            raise
        keep_exit_code()
        screen.print("Interrupted. The same command goes on where this one stopped.")
        raise SystemExit(TERMINATED if is_terminated() else INTERRUPTED) from None
    return 0


if __name__ == "__main__":
    entry()
