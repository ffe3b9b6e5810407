"""`persyn run`, `quickstart`, `compare` and `plan`: carry out a recipe, or say what it would do."""

from functools import partial
from importlib.resources import as_file, files
from typing import Annotated

import typer

from persyn_ray.cli.shared import (
    AsJson,
    Overrides,
    RecipePath,
    Verbose,
    console,
    linked,
    log_to_terminal,
    print_json,
)
from persyn_ray.escaping import plain


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Do this step and later ones anew.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this step.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every table first; make damaged ones anew.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Carry out a recipe; what is finished is kept, what was interrupted goes on."""
    from persyn_ray.pipeline.results.report import (
        report_what_stands,
        telling_what_stands,
        write_report,
    )
    from persyn_ray.pipeline.runner import run_recipe
    from persyn_ray.recipe.recipe import load_recipe
    from persyn_ray.report.text import next_steps
    from persyn_ray.storage.layout import run_of

    log_to_terminal(verbose)
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
            verify=verify,
            when_failed=partial(report_what_stands, console),
        )
        if until in (None, "report"):
            console.print(linked("\nReport: ", write_report(loaded, done, console)), soft_wrap=True)
            has_data, has_router = (done.dataset / "data").exists(), done.router.exists()
            console.print(next_steps(loaded.run, has_data, has_router), soft_wrap=True)


def quickstart(
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this step.")] = None,
    verbose: Verbose = False,
) -> None:
    """Run the lab: tiny trained teachers and a student, on two cores in a few minutes."""
    with as_file(files("persyn_ray.lab").joinpath("quickstart.yaml")) as recipe:
        console.print(plain(f"The recipe: {recipe}"), soft_wrap=True)
        run(recipe, overrides, until=until, verbose=verbose)


def compare(
    recipe: RecipePath,
    overrides: Overrides = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Methods beside PerSyn, by commas; by default compare.methods."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Whole runs, each with another seed.")] = 3,
    verbose: Verbose = False,
) -> None:
    """Run PerSyn and other methods on several seeds; one table and figure with intervals."""
    from persyn_ray.pipeline.compare import compare as compare_methods
    from persyn_ray.pipeline.compare import seed_runs
    from persyn_ray.pipeline.results.report import telling_what_stands
    from persyn_ray.recipe.recipe import load_recipe
    from persyn_ray.storage.layout import run_of

    log_to_terminal(verbose)
    given = tuple(overrides or ())
    names = [name.strip() for option in methods or () for name in option.split(",")]
    loaded = load_recipe(recipe, given)
    with telling_what_stands(console, *seed_runs(run_of(loaded), seeds)):
        done = compare_methods(loaded, console, names, seeds, overrides=given, verbose=verbose)
    console.print(linked("\nComparison: ", f"{done.root.address}/comparison.html"), soft_wrap=True)


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="NODESxGPUSxGIB, such as 2x8x80, in place of the recipe's hardware."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recipe will do, need and cost, without starting anything."""
    from persyn_ray.pipeline.plan.as_json import plan_json
    from persyn_ray.pipeline.plan.display import show
    from persyn_ray.pipeline.plan.plan import on_cluster, plan_run
    from persyn_ray.recipe.recipe import load_recipe

    given = tuple(overrides or ())
    loaded = load_recipe(recipe, given)
    planned = plan_run(on_cluster(loaded, cluster) if cluster else loaded, given)
    if as_json:
        print_json(plan_json(planned))
    else:
        show(planned, console)
