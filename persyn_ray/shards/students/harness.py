"""Evaluates students by the Language Model Evaluation Harness: a student in, its metrics filed.

The harness's own code asks and scores (`lm_eval.simple_evaluate`). A student's results come last,
so that they prove its samples complete; a student that has them is not evaluated again.
"""

import json
import math
from collections.abc import Mapping
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
            size, gpus = self.recipe.evaluate.batch_size, self.recipe.resources.evaluate.gpus
            found = evaluate_by_harness(student, self.section, size, gpus)
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
    student: StudentConfig, section: LmEvalConfig, batch_size: int, gpus: float = 0.0
) -> dict[str, Any]:
    """What the harness returns for a student: `results`, `samples`, `configs` and others.

    Args:
        gpus: what this process has of GPUs.

    Raises:
        ConfigError: the package, a task or an argument does not exist.
        StepError: the harness or vLLM failed otherwise.
    """
    from persyn_ray.shards.students.harness_models import harness_model

    harness, tasks = _harness(section)
    with harness_model(student, section, batch_size, gpus) as model:
        try:
            found = harness.simple_evaluate(
                model,
                tasks=list(section.tasks),
                num_fewshot=section.num_fewshot,
                limit=section.limit,
                system_instruction=section.system_instruction,
                apply_chat_template=section.apply_chat_template,
                gen_kwargs=dict(section.generation) or None,
                task_manager=tasks,
            )
        except Exception as error:  # whatever tasks, metrics and data sets raise
            raise StepError(
                f"The evaluation harness failed on {student.name}: {type(error).__name__}: {error}."
                " See evaluate.lm_eval."
            ) from error
    assert found is not None, "there is one process, which gets the results"
    return found


def require_packages(section: LmEvalConfig) -> None:
    """Refuse to begin what the harness, or vLLM for it, has to end.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(f"evaluate.lm_eval: {PACKAGE}")
    if section.backend == "vllm":
        from persyn_ray.engines.vllm import require_vllm

        require_vllm("evaluate.lm_eval.backend: vllm")


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
