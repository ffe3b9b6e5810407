"""Evaluate: held-out problems in, the student's answers with their verdicts out.

Judged is what follows the thinking, as in step score.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.errors import StepError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.engines import TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.own_code import PythonQualityConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.scoring import EvaluateCheck
from persyn_ray.recipe.teachers import SamplingConfig, TeacherConfig
from persyn_ray.recipe.training import (
    EvaluateConfig,
    EvaluateTransformersConfig,
    EvaluateVllmConfig,
)
from persyn_ray.stages.generate import Generate
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.schemas import EVALUATIONS, PROMPTS, RESPONSES, conform


def student_as_teacher(
    student: str, model: StudentConfig, section: EvaluateConfig
) -> TeacherConfig:
    """A student answers by the engines that teachers use; greedily, unless the recipe says else."""
    resources = None
    if isinstance(section.engine, EvaluateVllmConfig):
        resources = section.engine.resources
    return TeacherConfig(
        name=student,
        engine=_engine(model, section),
        template_kwargs=model.template_kwargs,
        sampling=SamplingConfig(
            max_tokens=section.max_tokens,
            temperature=section.temperature,
            top_p=section.top_p,
            seed=section.seed,
        ),
        resources=resources,
    )


def _engine(
    model: StudentConfig, section: EvaluateConfig
) -> TransformersEngineConfig | VllmEngineConfig:
    match section.engine:
        case EvaluateTransformersConfig():
            return TransformersEngineConfig(
                kind="transformers",
                model=model.model,
                batch_size=section.batch_size,
                end_of_turn=model.end_of_turn,
            )
        case EvaluateVllmConfig() as engine:
            return VllmEngineConfig(
                kind="vllm",
                model=model.model.model_copy(update={"dtype": engine.dtype}),
                max_model_len=engine.max_model_len,
                quantization=engine.quantization,
                arguments=engine.arguments,
                end_of_turn=model.end_of_turn,
            )


class Evaluate:
    """Decodes one student on problems with known answers and checks what it says."""

    reads, writes = PROMPTS, EVALUATIONS

    def __init__(
        self,
        student: str,
        model: StudentConfig,
        section: EvaluateConfig,
        check: EvaluateCheck,
        responses: ResponsesConfig | None = None,
        placement: Any = None,
    ) -> None:
        self.student = student
        teacher = student_as_teacher(student, model, section)
        self.generate = Generate(teacher, TeacherPool((student,)), placement=placement)
        self.check, self.quality = check, Quality(check, responses)
        self.num_tokens = 0
        self._answering, self._checking = threading.Lock(), threading.Lock()

    def __call__(self, prompts: pa.Table) -> pa.Table:
        """EVALUATIONS of some problems; several threads may ask at once.

        An engine that streams gets the problems of all of them; others take turns.
        """
        with nullcontext() if self.generate.engine.overlaps else self._answering:
            responses = self.generate(prompts)
        with self._checking:
            found = self.quality(prompts, responses).to_pylist()
            if isinstance(self.check, PythonQualityConfig):
                _require_shares(self.check, found)
            self.num_tokens += selection.total(responses, "num_tokens")
        verdicts = {row["prompt_id"]: row for row in found}
        rows = [
            {
                "prompt_id": row["prompt_id"],
                "student": self.student,
                "response": row["response"],
                "finish_reason": row["finish_reason"],
                "outcome": verdicts[row["prompt_id"]]["outcome"],
                "correct": verdicts[row["prompt_id"]]["quality"],
            }
            for row in responses.select(RESPONSES.names).to_pylist()
        ]
        return conform(pa.Table.from_pylist(rows, schema=EVALUATIONS), EVALUATIONS, "evaluations")

    def take_tokens(self) -> int:
        """Tokens written since this was last asked."""
        with self._checking:
            taken, self.num_tokens = self.num_tokens, 0
        return taken

    def close(self) -> None:
        """Give back what the engine holds."""
        self.generate.close()
        self.quality.close()


def _require_shares(check: PythonQualityConfig, found: Sequence[Mapping[str, Any]]) -> None:
    """Refuse values that are no share of a right answer: their mean is called accuracy.

    Raises:
        StepError: one is not within 0 to 1.
    """
    for row in found:
        if row["quality"] is not None and not 0 <= row["quality"] <= 1:
            raise StepError(
                f"evaluate.check {check.function!r} gives {row['quality']:g} for the answer to "
                f"prompt {row['prompt_id']}: it must be 0 (wrong) to 1 (right), or None."
            )
