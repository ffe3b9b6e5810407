"""From a teacher of the recipe to its engine; nothing heavy is imported before it is needed."""

from persyn_ray.config import RecordedEngine, ScriptedEngine, Teacher, TransformersEngine
from persyn_ray.engines.base import Engine
from persyn_ray.errors import ConfigError
from persyn_ray.pool import TeacherPool


def build_engine(teacher: Teacher, pool: TeacherPool | None = None) -> Engine:
    """The engine of a teacher; weights are loaded by its first `generate`.

    A scripted engine needs the whole pool: what its teachers can do depends on one another.

    Raises:
        ConfigError: a setting does not apply to this kind of engine, or what it names is missing.
    """
    match teacher.engine:
        case TransformersEngine() as engine:
            from persyn_ray.engines.transformers import TransformersEngine as Local

            return Local(
                name=teacher.name,
                model=engine.model,
                sampling=teacher.sampling,
                batch_size=engine.batch_size,
                system_prompt=teacher.system_prompt,
                template_kwargs=teacher.template_kwargs,
            )
        case RecordedEngine() as engine:
            from persyn_ray.engines.recorded import RecordedEngine as Recorded

            _refuse_ignored(teacher)
            return Recorded(
                path=engine.path,
                teacher=engine.teacher or teacher.name,
                prompt_column=engine.prompt_column,
                teacher_column=engine.teacher_column,
                response_column=engine.response_column,
                finish_reason_column=engine.finish_reason_column,
            )
        case ScriptedEngine() as engine:
            from persyn_ray.engines.scripted import ScriptedEngine as Scripted

            _refuse_ignored(teacher)
            if pool is None:
                raise ConfigError(f"The scripted teacher {teacher.name!r} needs its pool.")
            return Scripted(teacher.name, pool, engine.num_tasks, engine.seed, engine.fail_on)


def _refuse_ignored(teacher: Teacher) -> None:
    """A setting without effect is an error: it would say of the data what is not so."""
    fields = type(teacher).model_fields
    ignored = ("sampling", "system_prompt", "template_kwargs")
    given = [name for name in ignored if getattr(teacher, name) != fields[name].default]
    if given:
        raise ConfigError(
            f"Teacher {teacher.name!r} has an engine of kind {teacher.engine.kind}, which ignores "
            f"{given}: remove them from `teachers`."
        )
