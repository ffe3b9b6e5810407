"""Recipes for Python: a recipe or its file in, a plan, a finished run or a comparison out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from persyn_ray.pipeline.plan.plan import Plan, on_cluster, plan_run
from persyn_ray.recipe.reading.overrides import change
from persyn_ray.recipe.recipe import Recipe, load_recipe, parse_recipe
from persyn_ray.storage.folder import Folder

Given = Recipe | str | Path
"""A recipe, or the path of its YAML file."""


@dataclass(frozen=True)
class FinishedRun:
    """Where a run's results lie: paths or fsspec addresses; None for what it does not hold."""

    folder: str
    report_page: str | None
    """report.html."""
    router: str | None
    """Folder of the fitted router, as `Router.load` reads it."""
    dataset: str | None
    """Folder of the routed data set, as `datasets.load_dataset` reads it."""
    student: str | None
    """Folder of the student that PerSyn's data has tuned."""
    report: Mapping[str, Any]
    """All figures of report.json, see `persyn_ray.report.content`; empty without a report."""


@dataclass(frozen=True)
class FinishedComparison:
    """Where a comparison's results lie, and its figures."""

    folder: str
    page: str
    """comparison.html."""
    figures: Mapping[str, Any]
    """All figures of comparison.json, see `persyn_ray.report.comparison.content`."""


def plan(recipe: Given, overrides: Sequence[str] = (), *, cluster: str | None = None) -> Plan:
    """What a recipe will do, need and cost; nothing is started and no model loaded.

    Args:
        overrides: `section.key=value`s, as on the command line.
        cluster: NODESxGPUSxGIB, such as 2x8x80, in place of the recipe's hardware.

    Raises:
        ConfigError: the recipe is wrong, or its teachers fit on no hardware.
        DriftError: the run folder was made with other settings.
    """
    loaded = _loaded(recipe, overrides)
    return plan_run(on_cluster(loaded, cluster) if cluster else loaded, tuple(overrides))


def run(
    recipe: Given,
    overrides: Sequence[str] = (),
    *,
    start: str | None = None,
    until: str | None = None,
    console: Console | None = None,
    verbose: bool = False,
) -> FinishedRun:
    """Carry out a recipe as `persyn run` does: what is finished is kept, the rest goes on.

    It uses the Ray that this process is connected to, or starts one of this machine and ends it.
    Code of your own (`kind: python`) is brought to the workers of a Ray that it connects to itself;
    with yours, `ray.init(runtime_env={"py_modules": [...]})` does that.

    Args:
        start: do this step and later ones anew.
        until: stop after this step; then no report is written.
        console: where progress is shown; `rich.console.Console(quiet=True)` shows nothing.
        verbose: show the workers' logs.

    Raises:
        ConfigError: the recipe or this machine cannot do it.
        DriftError: the run folder was made with other settings.
        StepError: a step could not be carried out; the same call goes on.
    """
    from persyn_ray.pipeline.results.report import report_what_stands, write_report
    from persyn_ray.pipeline.runner import run_recipe

    loaded, screen = _loaded(recipe, overrides), console or Console()
    done = run_recipe(
        loaded,
        screen,
        overrides=tuple(overrides),
        start=start,
        until=until,
        verbose=verbose,
        when_failed=partial(report_what_stands, screen),
    )
    if until in (None, "report"):
        write_report(loaded, done, screen)
    return finished_run(done.root.address)


def finished_run(folder: str | Path) -> FinishedRun:
    """What a run folder holds now.

    Raises:
        ConfigError: it is no run folder.
    """
    from persyn_ray.errors import ConfigError

    root = Folder.absolute(str(folder))
    if not root.exists("persyn-run.json"):
        raise ConfigError(f"{folder} is no run folder: name what `run` of a recipe says.")

    def address(name: str, proof: str) -> str | None:
        return f"{root.address}/{name}" if root.exists(proof) else None

    return FinishedRun(
        folder=root.address,
        report_page=address("report.html", "report.html"),
        router=address("router", "router/config.json"),
        dataset=address("dataset", "dataset/README.md"),
        student=address("students/persyn", "students/persyn/config.json"),
        report=root.read_json("report.json") if root.exists("report.json") else {},
    )


def compare(
    recipe: Given,
    methods: Sequence[str] = (),
    *,
    seeds: int = 3,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    verbose: bool = False,
) -> FinishedComparison:
    """Run PerSyn and other methods on several seeds, as `persyn compare` does.

    Args:
        methods: what PerSyn is compared with; by default the recipe's `compare.methods`.
        seeds: whole runs, each with another seed.

    Raises:
        ConfigError: a method is unknown or lacks a setting.
        DriftError: a seed's run was made with other settings.
    """
    from persyn_ray.pipeline.compare import compare as compare_methods

    done = compare_methods(
        _loaded(recipe, overrides),
        console or Console(),
        methods,
        seeds,
        overrides=tuple(overrides),
        verbose=verbose,
    )
    address = done.root.address
    return FinishedComparison(
        address, f"{address}/comparison.html", done.root.read_json("comparison.json")
    )


def _loaded(recipe: Given, overrides: Sequence[str]) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, tuple(overrides))
    data: Mapping[str, Any] = recipe.model_dump(mode="json", exclude_unset=True)
    for override in overrides:
        data = change(data, override)
    return parse_recipe(data, "The recipe") if overrides else recipe
