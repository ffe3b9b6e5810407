"""Evaluate: held-out problems in, the student's greedy answers with their verdicts out.

Judged is what follows the thinking, as in step score.
"""

import pyarrow as pa

from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.scoring import Check
from persyn_ray.recipe.teachers import SamplingConfig, TeacherConfig, TransformersEngineConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.stages.generate import Generate
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.schemas import EVALUATIONS, PROMPTS, RESPONSES, conform


def student_as_teacher(
    student: str, model: StudentConfig, section: EvaluateConfig
) -> TeacherConfig:
    """A student answers by the same engine that teachers use, greedily."""
    return TeacherConfig(
        name=student,
        engine=TransformersEngineConfig(
            kind="transformers", model=model.model, batch_size=section.batch_size
        ),
        template_kwargs=model.template_kwargs,
        sampling=SamplingConfig(max_tokens=section.max_tokens, temperature=0.0, top_p=1.0),
    )


class Evaluate:
    """Decodes one student on problems with known answers and checks what it says."""

    reads, writes = PROMPTS, EVALUATIONS

    def __init__(
        self,
        student: str,
        model: StudentConfig,
        section: EvaluateConfig,
        check: Check,
        responses: ResponsesConfig | None = None,
    ) -> None:
        self.student = student
        self.generate = Generate(
            student_as_teacher(student, model, section), TeacherPool((student,))
        )
        self.quality = Quality(check, responses)
        self.num_tokens = 0

    def __call__(self, prompts: pa.Table) -> pa.Table:
        responses = self.generate(prompts)
        verdicts = {row["prompt_id"]: row for row in self.quality(prompts, responses).to_pylist()}
        self.num_tokens = sum(responses["num_tokens"].to_pylist())
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
