"""Parts of a recipe that are code of one's own: its sections in, references with files out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.engines import Engine
from persyn_ray.recipe.own_code import (
    PythonEngineConfig,
    PythonQualityConfig,
    file_of,
    told,
    top_of,
)
from persyn_ray.recipe.scoring import EvaluateCheck, JudgeConfig, Quality, ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.layout import parts_of


@dataclass(frozen=True)
class OwnPart:
    """One reference."""

    setting: str
    reference: str
    said: str
    """As a plan shows it."""


def own_parts(
    teachers: Sequence[TeacherConfig],
    scoring: ScoringConfig,
    check: EvaluateCheck | None = None,
) -> tuple[OwnPart, ...]:
    """All references of a recipe; `check` is that of `evaluate`.

    Raises:
        ConfigError: there is no such module.
    """
    found = (*_found(teachers, scoring), *_of_check("evaluate.check.function", check))
    absent = [part for part in found if file_of(part.reference) is None]
    if absent:
        raise ConfigError(
            "\n".join(
                f"{part.setting} is {part.reference!r}: there is no such module in the working "
                "folder or on Python's path. Start where it lies, or set PYTHONPATH."
                for part in absent
            )
        )
    return found


def modules_to_ship(parts: Sequence[OwnPart]) -> tuple[str, ...]:
    """Files and folders of code that workers on other machines lack."""
    tops = [top_of(part.reference) for part in parts]
    return tuple(dict.fromkeys(str(top) for top in tops if top is not None))


def _found(teachers: Sequence[TeacherConfig], scoring: ScoringConfig) -> Iterator[OwnPart]:
    for teacher in teachers:
        if not teacher.retired:
            yield from _of_engine(f"engine.factory of teacher {teacher.name!r}", teacher.engine)
    for part in parts_of(scoring):
        how = part.quality
        yield from _of_check("scoring.quality.function", how)
        if isinstance(how, JudgeConfig):
            yield from _of_engine("scoring.quality.engine.factory", how.engine)


def _of_check(setting: str, how: Quality | None) -> Iterator[OwnPart]:
    if isinstance(how, PythonQualityConfig):
        said = told(how.function, how.settings, how.source)
        where = f"in {how.processes} processes" if how.processes else "in the actors themselves"
        yield OwnPart(setting, how.function, f"{said}, {where}")


def _of_engine(setting: str, engine: Engine) -> Iterator[OwnPart]:
    if isinstance(engine, PythonEngineConfig):
        said = told(engine.factory, engine.settings, engine.source)
        yield OwnPart(setting, engine.factory, said)
