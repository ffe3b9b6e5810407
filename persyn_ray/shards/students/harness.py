"""Evaluates students by the Language Model Evaluation Harness: a student in, its metrics filed.

The harness's own code asks and scores (`lm_eval.simple_evaluate`). A student's results come last,
so that they prove its samples complete; a student that has them is not evaluated again.
"""

import json
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.training import LmEvalConfig
from persyn_ray.shards.units import Progress, Unit
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, RunLayout, run_of

RESULTS = "results.json"
PACKAGE = "The package `lm_eval` is not installed: pip install 'persyn-ray[lm-eval]'."
NO_METRICS = ("sample_len", "sample_count", "samples")
Metrics = dict[str, dict[str, float]]
"""By task and metric; `METRIC_stderr` is a metric's standard error."""


class EvaluateByHarness:
    """All tasks of `evaluate.lm_eval` for the student of a unit."""

    def __init__(self, recipe: Recipe) -> None:
        section = recipe.evaluate.lm_eval
        assert section is not None, "a recipe without evaluate.lm_eval has no such work"
        self.recipe, self.run, self.section = recipe, run_of(recipe), section

    def __call__(self, unit: Unit) -> Progress:
        name = unit.get("student", BEFORE)
        student = self.run.student_model(self.recipe.student, name)
        with TemporaryDirectory() as scratch:
            if "://" in student.name:
                folder = Folder(student.name).download(Path(scratch))
                student = student.model_copy(update={"name": str(folder)})
            found = evaluate_by_harness(student, self.section, self.recipe.evaluate.batch_size)
        return Progress(_file(self.run.lm_eval(name), found))


def metrics_of(run: RunLayout, student: str) -> Metrics | None:
    """A student's metrics; None where it is not evaluated."""
    folder = run.lm_eval(student)
    if not folder.exists(RESULTS):
        return None
    found: Metrics = {}
    for task, values in folder.read_json(RESULTS)["results"].items():
        numbers = {name.removesuffix(",none"): value for name, value in values.items()}
        found[task] = {
            name.replace(",", " "): float(value)
            for name, value in numbers.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
            if math.isfinite(value) and name not in NO_METRICS
        }
    return found


def evaluate_by_harness(
    student: StudentConfig, section: LmEvalConfig, batch_size: int
) -> dict[str, Any]:
    """What the harness returns for a student: `results`, `samples`, `configs` and others.

    Raises:
        ConfigError: the package, a task or an argument does not exist.
        StepError: the harness failed otherwise.
    """
    harness, tasks = _harness(section)
    model, arguments = _model(student, section, batch_size)
    try:
        found = harness.simple_evaluate(
            model,
            model_args=arguments,
            tasks=list(section.tasks),
            num_fewshot=section.num_fewshot,
            batch_size=batch_size if section.backend == "hf" else "auto",
            limit=section.limit,
            system_instruction=section.system_instruction,
            apply_chat_template=section.apply_chat_template,
            gen_kwargs=dict(section.generation) or None,
            task_manager=tasks,
        )
    except Exception as error:  # whatever tasks, metrics and data sets raise
        raise StepError(
            f"The evaluation harness failed on {student.name}: {type(error).__name__}: {error}. "
            "See evaluate.lm_eval."
        ) from error
    assert found is not None, "there is one process, which gets the results"
    return found


def require_package() -> None:
    """Refuse to begin what the harness has to end.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(f"evaluate.lm_eval: {PACKAGE}")


def _harness(section: LmEvalConfig) -> tuple[Any, Any]:
    """The harness, and its tasks with those of one's own."""
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"evaluate.lm_eval: {PACKAGE} ({error})") from error
    tasks = TaskManager(include_path=section.include_path)
    known = set(tasks.all_tasks)
    absent = [
        name
        for name in section.tasks
        if name not in known and not Path(name).is_file() and not tasks.match_tasks([name])
    ]
    if absent:
        raise ConfigError(
            f"evaluate.lm_eval.tasks names {absent}, which the harness (lm_eval "
            f"{getattr(lm_eval, '__version__', '')}) does not know. `lm_eval ls tasks` lists its "
            "tasks; evaluate.lm_eval.include_path names a folder with others."
        )
    return lm_eval, tasks


def _model(
    student: StudentConfig, section: LmEvalConfig, batch_size: int
) -> tuple[Any, dict[str, Any] | None]:
    """The student as the harness takes it; it ends its turns as in training."""
    from persyn_ray.models.load import fetch_weights, load_causal_lm, load_tokenizer, on_device
    from persyn_ray.models.templates.end_of_turn import end_of_turn, set_end_of_turn

    code = student.trust_remote_code
    if section.backend == "vllm":
        place = fetch_weights(student.name, student.revision)
        given = {"pretrained": place, "dtype": student.dtype, "trust_remote_code": code}
        if student.template_kwargs:
            given["chat_template_args"] = dict(student.template_kwargs)
        return "vllm", given | section.arguments
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    model = load_causal_lm(student.name, student.dtype, student.revision, code)
    tokenizer = load_tokenizer(student.name, student.revision, student.chat_template, code)
    end_id = end_of_turn(tokenizer, student.end_of_turn, student.template_kwargs)
    set_end_of_turn(model, tokenizer, end_id)
    given: dict[str, Any] = {"pretrained": on_device(model), "tokenizer": tokenizer}
    given |= {"batch_size": batch_size, "chat_template_args": dict(student.template_kwargs)}
    return _built(HFLM, given | section.arguments), None


def _built(kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"evaluate.lm_eval.arguments: {error}.") from error


def _file(folder: Folder, found: Mapping[str, Any]) -> int:
    """Leave samples and results; returns the number of samples."""
    num = 0
    for task, samples in found.get("samples", {}).items():
        lines = [json.dumps(one, ensure_ascii=True, default=str) for one in samples]
        folder.write_text(f"samples-{task}.jsonl", "".join(f"{line}\n" for line in lines))
        num += len(lines)
    kept = {name: value for name, value in found.items() if name != "samples"}
    folder.write_text(RESULTS, json.dumps(kept, default=str, indent=1))
    return num
