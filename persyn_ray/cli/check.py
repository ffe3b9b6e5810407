"""`persyn check`: whether a recipe can run, before money is spent."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated

import typer

from persyn_ray.cli.shared import (
    AsJson,
    Overrides,
    RecipePath,
    console,
    log_to_terminal,
    print_json,
)


def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no endpoint and fetch no model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check files, models, endpoints, machine and cost; exit code 1 with any ✗."""
    from persyn_ray.errors import ConfigError
    from persyn_ray.pipeline.check.check import check_recipe
    from persyn_ray.pipeline.check.display import show_end, show_findings
    from persyn_ray.pipeline.check.findings import Finding, problems, refused
    from persyn_ray.recipe.recipe import load_recipe

    log_to_terminal(False)
    given = tuple(overrides or ())

    def look() -> Iterator[Finding]:
        try:
            loaded = load_recipe(recipe, given)
        except ConfigError as error:
            yield refused("recipe", error)
            return
        yield Finding("recipe", "ok", f"{recipe} fits the schema.")
        yield from check_recipe(loaded, given, offline)

    waiting = nullcontext() if as_json else console.status("Checking …")
    with _findings_alone(), waiting:
        findings = list(look() if as_json else show_findings(look(), console))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        show_end(findings, str(recipe), console)
    if problems(findings):
        raise typer.Exit(1)


@contextmanager
def _findings_alone() -> Iterator[None]:
    """Without our warnings: an endpoint that does not list a model is asked for it here."""
    ours = logging.getLogger("persyn_ray")
    before = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(before)
