"""Runs a recipe's steps in order: skips finished ones, refuses drift, resumes the rest."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.padding import Padding

from persyn_ray import __version__
from persyn_ray.errors import AttemptError, ConfigError, DriftError, PersynError, StepError
from persyn_ray.escaping import plain
from persyn_ray.pipeline.check.ready import require_ready
from persyn_ray.pipeline.integrity.ownership import claim, inputs_of, require_made, require_own
from persyn_ray.pipeline.integrity.recovery import Damage, find_damage, remove_leftovers
from persyn_ray.pipeline.results.step_remarks import remarks
from persyn_ray.pipeline.steps import STEP_NAMES, STEPS, Context, Step
from persyn_ray.recipe.recipe import Recipe, stored
from persyn_ray.storage.folder_errors import UNREADABLE
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.own_parts import modules_to_ship, own_parts
from persyn_ray.storage.records import (
    Record,
    Settings,
    differences,
    identity,
    read_record,
    utc_now,
    write_record,
)
from persyn_ray.storage.results import StepResult
from persyn_ray.storage.run_lock import Attempt, attempt_at

SUSPECT = "damage.suspected"
"""File among the records that says that a step has met a damaged table."""
OUTDATED = ""
"""In place of the identity of a step that has begun: it was done, and no longer holds."""

PACKAGES = ("ray", "torch", "transformers", "deepspeed", "accelerate", "pyarrow", "numpy")


@dataclass(frozen=True)
class Planned:
    """A step with what it would be made with now, and what stands there."""

    step: Step
    settings: Settings
    inputs: dict[str, str]
    record: Record | None

    @property
    def identity(self) -> str:
        return identity(self.settings, self.inputs)

    @property
    def is_done(self) -> bool:
        return self.record is not None and self.record.fingerprint == self.identity


@dataclass(frozen=True)
class Execution:
    """The steps that one attempt carries out, with all that they work with."""

    recipe: Recipe
    run: RunLayout
    console: Console
    attempt: Attempt
    plan: list[Planned]
    todo: list[Planned]

    def carry_out_somewhere(self, verbose: bool) -> None:
        """In a session of Ray where a step needs one."""
        if not any(planned.step.on_ray for planned in self.todo):
            return self._carry_out()
        from persyn_ray.runtime.session import check_fits, session

        recipe = self.recipe
        own = own_parts(recipe.teachers, recipe.scoring, recipe.evaluate.check)
        modules = modules_to_ship(own)
        with session(verbose, modules) as cluster:
            check_fits(self.recipe.run, self.recipe.resources, cluster)
            self._carry_out()

    def _carry_out(self) -> None:
        _invalidate(self.plan, self.todo, self.run)
        self.run.root.write_json("recipe.json", stored(self.recipe))
        for planned in self.todo:
            self.attempt.require_newest()
            self._carry_out_one(planned)

    def _carry_out_one(self, planned: Planned) -> None:
        step, run, started = planned.step, self.run, time.monotonic()
        _clear_leftovers(planned, run)
        result = step.carry_out(Context(self.recipe, run, planned.identity, self.console))
        seconds = time.monotonic() - started
        self.attempt.require_newest()
        write_record(
            run.records,
            Record(
                step.name,
                planned.identity,
                planned.settings,
                planned.inputs,
                result.model_dump(mode="json"),
                round(seconds, 3),
                utc_now(),
                versions(),
            ),
        )
        run.records.remove(_mark(planned))
        self._tell(step.name, result, seconds)

    def _tell(self, step: str, result: StepResult, seconds: float) -> None:
        lost = f"  [yellow]{result.num_lost:,} nulls or dead letters[/yellow]"
        self.console.print(
            f"[bold]{step:<11}[/bold] {result.rows:>7,} rows  {seconds:6.1f} s"
            + (lost if result.num_lost else "")
        )
        for remark in remarks(result, self.run, self.recipe.teachers, self.recipe.responses):
            self.console.print(Padding(plain(remark, "yellow"), (0, 0, 0, 2)))


def planned_steps(recipe: Recipe, run: RunLayout) -> list[Planned]:
    """Every step with its identity under this recipe and its record, in order."""
    plan: list[Planned] = []
    made: dict[str, str] = {}
    for step in STEPS:
        settings = step.settings(recipe)
        inputs = {name: made[name] for name in step.reads}
        planned = Planned(step, settings, inputs, read_record(run.records, step.name))
        made[step.name] = planned.identity
        plan.append(planned)
    return plan


def drift(plan: list[Planned]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Per finished step, the recipe keys that differ from what it was made with."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for planned in plan:
        if planned.record is not None and not planned.is_done:
            changed = differences(planned.record.settings, planned.settings)
            if changed:
                found[planned.step.name] = changed
    return found


def require_no_drift(plan: list[Planned], given: tuple[str, ...], start: str | None) -> None:
    """Refuse a changed recipe over a finished run, unless the change was asked for.

    A change is asked for by `--from` an earlier step, or by naming the key on the command line.

    Raises:
        DriftError: with every differing key, its old and its new value.
    """
    order = {planned.step.name: number for number, planned in enumerate(plan)}
    lines: list[str] = []
    first: str | None = None
    for name, changed in drift(plan).items():
        if start is not None and order[name] >= order.get(start, len(order)):
            continue
        for key, (old, new) in changed.items():
            if not any(_covers(override, key) for override in given):
                first = first or name
                lines.append(f"  {name}: {key} {_changed(old, new)}")
    if lines:
        raise DriftError(
            "The run was made with other settings:\n"
            + "\n".join(lines)
            + f"\nRestore them, name the change on the command line (key=value), start again with "
            f"`--from {first}`, or set `run` to another folder."
        )


def _changed(old: Any, new: Any) -> str:
    """How a setting differs; a section that was added or left out is not shown in full."""
    if isinstance(new, dict) and old is None:
        return "was not there, and is in the recipe"
    if isinstance(old, dict) and new is None:
        return "was there, and is not in the recipe"
    return f"was {old!r}, the recipe says {new!r}"


def _covers(override: str, key: str) -> bool:
    """Whether a `key=value` of the command line accounts for a difference under `key`."""
    given = override.partition("=")[0]
    # Teachers are numbered in the recipe and named in records; what `compare` makes all teachers
    # answer, and whether the student scores that, follow from several keys.
    for derived, sections in (
        ("teachers", ("teachers",)),
        ("compare.splits", ("compare",)),
        ("scoring.measure", ("scoring", "compare", "assignment")),
    ):
        if key.startswith(derived) and given.split(".")[0] in sections:
            return True
    return key == given or key.startswith(given + ".") or given.startswith(key + ".")


def run_recipe(
    recipe: Recipe,
    console: Console,
    *,
    overrides: tuple[str, ...] = (),
    start: str | None = None,
    until: str | None = None,
    verbose: bool = False,
    verify: bool = False,
    when_failed: Callable[[Recipe, RunLayout], None] | None = None,
) -> RunLayout:
    """Bring a run up to date, step after step; each leaves its record last.

    Args:
        overrides: the `key=value`s of the command line; changes they name are on purpose.
        start: do this step and all after it anew.
        until: stop after this step.
        verify: read every table first, to find what is damaged inside.
        when_failed: called when a step could not be done, before its error goes on.

    Raises:
        DriftError: see `require_no_drift`.
        AttemptError: another process works on the run.
        ConfigError: the folder is somebody else's, or an input lies in it (see `owning`).
    """
    _require_steps(start, until)
    run = run_of(recipe)
    require_own(run, inputs_of(recipe))
    require_no_drift(planned_steps(recipe, run), overrides, start)
    claim(run)
    with attempt_at(run.attempts, console) as attempt:
        plan = planned_steps(recipe, run)  # an earlier attempt may have gone on until now
        require_no_drift(plan, overrides, start)
        damaged = partial(find_damage, run, recipe.teachers, recipe.compare)
        plan = _mended(plan, damaged, run, console, verify)
        todo = _todo(plan, start, until)
        _require_ready(todo, recipe, run)
        for planned in plan:
            if planned not in todo and planned.is_done:
                console.print(f"[dim]{planned.step.name:<11} done before[/dim]")
        with _telling(partial(when_failed, recipe, run) if when_failed else None, run):
            execution = Execution(recipe, run, console, attempt, plan, todo)
            execution.carry_out_somewhere(verbose)
    return run


def _require_ready(todo: list[Planned], recipe: Recipe, run: RunLayout) -> None:
    """Refuse steps that would overwrite what is not the run's, or whose teachers cannot answer."""
    require_made(run, [planned.step for planned in todo])
    names = [planned.step.name for planned in todo]
    if STEP_NAMES[0] in names and recipe.responses.store is None:  # nothing is answered yet
        require_ready(recipe.teachers, recipe.scoring, recipe.evaluate, names)


@contextmanager
def _telling(when_failed: Callable[[], None] | None, run: RunLayout) -> Iterator[None]:
    """Within it a step's error is told of before it goes on, unless the run is another's now."""
    try:
        yield
    except AttemptError:
        raise
    except Exception as error:
        if when_failed is not None and run.records.exists("prompts.json"):
            with suppress(PersynError):  # a full disk takes no report either
                when_failed()
        if UNREADABLE in str(error):
            raise _suspecting(error, run) from error
        raise


def _suspecting(error: Exception, run: RunLayout) -> StepError:
    """Have the next attempt read every table before it begins."""
    with suppress(PersynError):
        run.records.write_text(SUSPECT, str(error))
    return StepError(
        f"{error} The same command reads every table first, sets aside those that are damaged, and "
        "makes anew what they held."
    )


def _require_steps(start: str | None, until: str | None) -> None:
    for name, option in ((start, "--from"), (until, "--until")):
        if name is not None and name not in STEP_NAMES:
            steps = ", ".join(STEP_NAMES)
            raise ConfigError(f"{option} {name!r} is no step; the steps are {steps}.")


def _mended(
    plan: list[Planned],
    damaged: Callable[[bool], Iterable[Damage]],
    run: RunLayout,
    console: Console,
    verify: bool,
) -> list[Planned]:
    """The plan once what a crash has left is out of the way: steps whose tables cannot be read are
    open again, as if they had been interrupted.

    Args:
        damaged: finds the tables that cannot be read, on request to their last page.
    """
    remove_leftovers(run)
    with_pages = verify or run.records.exists(SUSPECT)
    damage = list(damaged(with_pages))
    if with_pages:
        console.print(f"Every table was read: {len(damage)} damaged.")
    for one in damage:
        console.print(plain(f"{one.reason} It is made anew.", "yellow"))
    affected = {one.step for one in damage}
    mended = [_reopened(one, run) if one.step.name in affected else one for one in plan]
    for one in damage:  # last: after a kill before this they are found again
        one.set_aside()
    run.records.remove(SUSPECT)
    return mended


def _reopened(planned: Planned, run: RunLayout) -> Planned:
    if planned.is_done:
        run.records.write_text(_mark(planned), planned.identity)
        run.records.remove(f"{planned.step.name}.json")
    return replace(planned, record=None) if planned.is_done else planned


def _todo(plan: list[Planned], start: str | None, until: str | None) -> list[Planned]:
    """Steps from the first unfinished one, or from `start`, up to `until`."""
    names = [planned.step.name for planned in plan]
    first = next((n for n, planned in enumerate(plan) if not planned.is_done), len(plan))
    if start is not None:
        first = min(first, STEP_NAMES.index(start))
    last = len(names) if until is None else min(len(names), STEP_NAMES.index(until) + 1)
    return plan[first:last]


def _invalidate(plan: list[Planned], todo: list[Planned], run: RunLayout) -> None:
    """Take away records that no longer hold, before anything they vouch for is touched.

    Also those of steps after `--until`: a report must not show them beside the new recipe.
    """
    for planned in plan:
        if planned.record is not None and (planned in todo or not planned.is_done):
            if not run.records.exists(_mark(planned)):
                run.records.write_text(_mark(planned), OUTDATED)  # its folders stay the run's own
            run.records.remove(f"{planned.step.name}.json")


def _clear_leftovers(planned: Planned, run: RunLayout) -> None:
    """Keep what an interrupted attempt at the very same step left; remove anything else."""
    mark = _mark(planned)
    same = run.records.exists(mark) and run.records.read_text(mark) == planned.identity
    if not same:
        require_made(run, [planned.step])
        for folder in planned.step.leaves(run):
            run.remove(folder)
        run.records.write_text(mark, planned.identity)


def _mark(planned: Planned) -> str:
    """Name of the file among the records that holds the identity of a step that has begun."""
    return f"{planned.step.name}.begun"


def versions() -> dict[str, str]:
    """Versions that a figure depends on."""
    found = {"persyn-ray": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
