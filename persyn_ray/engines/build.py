"""Builds the engine of a teacher from its settings; heavy libraries are imported only when used."""

from typing import Any

from persyn_ray.engines.base import Engine
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.engines import (
    OpenAIEngineConfig,
    RecordedEngineConfig,
    ScriptedEngineConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from persyn_ray.recipe.own_code import PythonEngineConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import TeacherConfig, TeacherResourcesConfig
from persyn_ray.storage.ledger import Account


def build_engine(
    teacher: TeacherConfig,
    pool: TeacherPool | None = None,
    responses: ResponsesConfig | None = None,
    placement: Any = None,
    spending: Account | None = None,
) -> Engine:
    """The engine of a teacher; weights are loaded by its first `generate`.

    Args:
        pool: needed by a scripted engine, whose teachers' abilities depend on one another.
        responses: how thinking is marked, and from when on a repetition is a loop.
        placement: placement group for vLLM's workers.
        spending: where an endpoint's tokens are counted; by default in memory, by its budget.

    Raises:
        ConfigError: a setting does not apply to this kind of engine, or what it names is missing.
    """
    responses = responses or ResponsesConfig()  # pyright: ignore[reportCallIssue]
    match teacher.engine:
        case TransformersEngineConfig() as engine:
            return _transformers(teacher, engine)
        case VllmEngineConfig() as engine:
            return _vllm(teacher, engine, responses, placement)
        case OpenAIEngineConfig() as engine:
            return _openai(teacher, engine, responses, spending)
        case RecordedEngineConfig() as engine:
            return _recorded(teacher, engine)
        case ScriptedEngineConfig() as engine:
            return _scripted(teacher, engine, pool)
        case PythonEngineConfig() as engine:
            return _python(teacher, engine)


def _transformers(teacher: TeacherConfig, engine: TransformersEngineConfig) -> Engine:
    from persyn_ray.engines.transformers import TransformersEngine as Local

    return Local(
        name=teacher.name,
        model=engine.model,
        sampling=teacher.sampling,
        batch_size=engine.batch_size,
        system_prompt=teacher.system_prompt,
        template_kwargs=teacher.template_kwargs,
        end_of_turn=engine.end_of_turn,
    )


def _vllm(
    teacher: TeacherConfig, engine: VllmEngineConfig, responses: ResponsesConfig, placement: Any
) -> Engine:
    from persyn_ray.engines.vllm import VllmTeacher

    return VllmTeacher(
        name=teacher.name,
        settings=engine,
        sampling=teacher.sampling,
        resources=teacher.resources or TeacherResourcesConfig(),
        system_prompt=teacher.system_prompt,
        template_kwargs=teacher.template_kwargs,
        think_tags=responses.think_tags,
        loop_repeats=responses.loop_repeats,
        placement=placement,
    )


def _openai(
    teacher: TeacherConfig,
    engine: OpenAIEngineConfig,
    responses: ResponsesConfig,
    spending: Account | None,
) -> Engine:
    from persyn_ray.engines.openai.engine import OpenAIEngine as Endpoint

    resources = teacher.resources or TeacherResourcesConfig()
    return Endpoint(
        name=teacher.name,
        endpoint=engine,
        sampling=teacher.sampling,
        system_prompt=teacher.system_prompt,
        template_kwargs=teacher.template_kwargs,
        max_requests=resources.max_requests,
        spending=spending or Account(teacher.budget, teacher.price),
        think_tags=responses.think_tags,
        context=None if teacher.size is None else teacher.size.context,
    )


def _recorded(teacher: TeacherConfig, engine: RecordedEngineConfig) -> Engine:
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


def _scripted(
    teacher: TeacherConfig, engine: ScriptedEngineConfig, pool: TeacherPool | None
) -> Engine:
    from persyn_ray.engines.scripted import ScriptedEngine as Scripted

    _refuse_ignored(teacher)
    if pool is None:
        raise ConfigError(f"The scripted teacher {teacher.name!r} needs its pool.")
    return Scripted(teacher.name, pool, engine.num_tasks, engine.seed, engine.fail_on)


def _python(teacher: TeacherConfig, engine: PythonEngineConfig) -> Engine:
    from persyn_ray.engines.python import PythonEngine as Own

    return Own(teacher, engine)


def _refuse_ignored(teacher: TeacherConfig) -> None:
    """A setting without effect is an error: it would say of the data what is not so."""
    fields = type(teacher).model_fields
    ignored = ("sampling", "system_prompt", "template_kwargs")
    given = [name for name in ignored if getattr(teacher, name) != fields[name].default]
    if given:
        raise ConfigError(
            f"Teacher {teacher.name!r} has an engine of kind {teacher.engine.kind}, which ignores "
            f"{given}: remove them from `teachers`."
        )
