"""Finds tables that a run should hold by its finished steps, and does not."""

from collections.abc import Iterator
from dataclasses import dataclass

from persyn_ray.pipeline.choices import assigned_methods, collected_splits, students
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import JudgeConfig, QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.problems import Problems
from persyn_ray.shards.part_files import shards_in
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.records import Record
from persyn_ray.storage.results import ScoreResult, read_result


@dataclass(frozen=True)
class TableSettings:
    """What of a recipe says which tables a finished run holds."""

    teachers: tuple[TeacherConfig, ...]
    parts: tuple[QualityPartConfig, ...]
    """The qualities, each with a table of its own."""
    compare: CompareConfig
    measures_learnability: bool
    evaluated: tuple[str, ...]
    """Students that answer every held-out problem."""


def table_settings(recipe: Recipe) -> TableSettings:
    """The settings of a recipe that decide which tables there are."""
    compare, evaluate, scoring = recipe.compare, recipe.evaluate, recipe.scoring
    evaluated = students(compare, evaluate, scoring) if evaluate.limit is None else ()
    return TableSettings(
        recipe.teachers, parts_of(scoring), compare, recipe.measures_learnability, evaluated
    )


def missing_tables(
    settings: TableSettings,
    run: RunLayout,
    records: dict[str, Record | None],
    problems: Problems,
) -> None:
    """Note each table of a finished step that lacks shards: figures made from the rest are of the
    rest alone.
    """
    if records["prompts"] is None:
        return

    def look(step: str) -> None:
        for name, folder, shards in _expected(settings, run, step):
            there = shards_in(folder)
            absent = [shard for shard in shards if shard not in there]
            if absent:
                listed = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
                problems.reasons[f"tables.{name}"] = (
                    f"{len(absent)} of {len(shards)} shards are not there ({listed}); "
                    f"`persyn run RECIPE --from {step}` makes them anew."
                )

    for step, record in records.items():
        if record is not None:
            problems.attempt(f"tables.{step}", lambda step=step: look(step), None)


def _expected(
    settings: TableSettings, run: RunLayout, step: str
) -> Iterator[tuple[str, Folder, list[str]]]:
    """Name, folder and shards of what a finished step has left."""
    compare, trained = settings.compare, shards_of(run, "parallel", "routed")
    if step == "prompts":
        yield "prompts", run.prompts, shards_of(run, "parallel", "heldout", "routed")
    elif step == "score":
        yield from _scores(settings, run)
    elif step == "rewards":
        yield "rewards", run.rewards, shards_of(run, *collected_splits(compare))
    elif step == "route":
        heldout = shards_of(run, "heldout") if compare.heldout else []
        yield "logits", run.logits, [*trained, *heldout]
        for method in assigned_methods(compare):
            yield f"assignment.{method}", run.assignment(method), trained
    elif step == "synthesize":
        for method in assigned_methods(compare):
            yield f"examples.{method}", run.examples(method), trained
    elif step == "evaluate":
        for student in settings.evaluated:
            yield f"evaluations.{student}", run.evaluations(student), shards_of(run, "heldout")


def _scores(settings: TableSettings, run: RunLayout) -> Iterator[tuple[str, Folder, list[str]]]:
    """Both signals of each teacher, where it has responses; a signal may be measured of nobody."""
    collected = shards_of(run, *collected_splits(settings.compare))
    scored = read_result(run.records, ScoreResult)
    is_cut = scored is not None and bool(scored.over_budget)
    for teacher in settings.teachers:
        answered = shards_in(run.responses(teacher))
        shards = [shard for shard in collected if shard in answered]
        signals = {}
        if settings.measures_learnability:
            signals["learnability"] = run.learnability(teacher)
        for part in settings.parts:
            if not (
                isinstance(part.quality, JudgeConfig) and is_cut
            ):  # dead letters name those rows
                signals[part.name] = run.quality(teacher, part)
        for name, folder in signals.items():
            if folder.exists():
                yield f"{name}.{teacher.name}", folder, shards
