"""`persyn doctor scoring`: compares learnability backends on a run's own responses.

The reference is the student in float32, one conversation at a time, through its makers' own
attention. Beside it: packed scoring in float32, in the recipe's precision and in bfloat16, and vLLM
where it is installed. It runs in this process, on the first device there is; not on Ray.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from persyn_ray.data import selection
from persyn_ray.errors import ConfigError, EngineDead
from persyn_ray.models.chat import Example
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.load import load_causal_lm, on_device
from persyn_ray.models.reference import plain_log_probs
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import shards_of
from persyn_ray.stages.learnability import ToExamples
from persyn_ray.statistics.parity import Parity, compare
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import read_record
from persyn_ray.storage.schemas import RESPONSES

NOTHING_YET = "{} holds no responses to score yet: `persyn run RECIPE --until collect` first."
LogProbs = list[NDArray[np.float64]]


@dataclass(frozen=True)
class BackendVerdict:
    """One way to score beside the reference."""

    backend: str
    parity: Parity | None
    seconds: float
    note: str = ""


def examine(recipe: Recipe, num_prompts: int) -> Iterator[BackendVerdict]:
    """Each way to score, as soon as it is measured; the reference comes first.

    Raises:
        ConfigError: the run has no responses yet.
    """
    student, scoring = recipe.student, recipe.scoring
    to_examples = ToExamples(student, scoring.max_length, recipe.responses, scoring.too_long)
    prompts, examples = _sample(run_of(recipe), recipe.teachers, to_examples, num_prompts)
    reference: LogProbs = []
    for dtype in dict.fromkeys(("float32", student.dtype, "bfloat16")):
        code = student.trust_remote_code
        model = on_device(load_causal_lm(student.name, dtype, student.revision, code))
        if not reference:
            started = time.monotonic()
            reference = [plain_log_probs(model, example) for example in examples]
            yield BackendVerdict("reference, float32", None, time.monotonic() - started)
        started = time.monotonic()
        found, note = _packed(model, scoring.tokens_per_batch, examples)
        seconds = time.monotonic() - started
        yield BackendVerdict(f"packed, {dtype}", compare(reference, found, prompts), seconds, note)
        del model
        _free()
    if find_spec("vllm") is None:
        yield BackendVerdict(f"vllm, {student.dtype}", None, 0.0, "not installed")
        return
    started = time.monotonic()
    try:
        found = _vllm(student, scoring, examples)
    except EngineDead as error:
        yield BackendVerdict(f"vllm, {student.dtype}", None, 0.0, str(error))
        return
    seconds = time.monotonic() - started
    yield BackendVerdict(f"vllm, {student.dtype}", compare(reference, found, prompts), seconds)


def _sample(
    run: RunLayout, teachers: Sequence[TeacherConfig], to_examples: ToExamples, num_prompts: int
) -> tuple[list[str], list[Example]]:
    """Responses of all teachers to the first prompts of the parallel set."""
    if read_record(run.records, "prompts") is None:
        raise ConfigError(NOTHING_YET.format(run.root.address))
    prompts: list[str] = []
    examples: list[Example] = []
    for shard in shards_of(run, "parallel"):
        asked = run.prompts.read_table(shard).slice(0, num_prompts - len(set(prompts)))
        tables = [existing(run.responses(teacher), shard, RESPONSES) for teacher in teachers]
        said = selection.among(pa.concat_tables(tables), "prompt_id", asked["prompt_id"])
        for one in to_examples(asked, said):
            if one.example is not None:
                prompts.append(one.prompt_id)
                examples.append(one.example)
        if len(set(prompts)) >= num_prompts:
            break
    if not examples:
        raise ConfigError(NOTHING_YET.format(run.root.address))
    return prompts, examples


def _packed(
    model: PreTrainedModel, tokens_per_batch: int, examples: Sequence[Example]
) -> tuple[LogProbs, str]:
    likelihood = Likelihood(model, tokens_per_batch)
    found = [scores.log_probs for scores in likelihood(examples)]
    return found, "" if likelihood.is_packed else "padded: its attention cannot be packed"


def _vllm(student: StudentConfig, scoring: ScoringConfig, examples: Sequence[Example]) -> LogProbs:
    from persyn_ray.engines.vllm_scoring import VllmLikelihood

    longest = max(len(example.ids) for example in examples)
    likelihood = VllmLikelihood(student, scoring.tokens_per_batch, scoring.arguments, longest)
    try:
        return [scores.log_probs for scores in likelihood(examples)]
    finally:
        likelihood.close()


COLUMNS = ("backend", "mean gap", "largest gap", "pairs flipped", "seconds", "")
"""Gaps are in nats per token."""


def cells(verdict: BackendVerdict) -> tuple[str, ...]:
    """A verdict under `COLUMNS`."""
    parity, seconds = verdict.parity, f"{verdict.seconds:.1f}" if verdict.seconds else ""
    if parity is None:
        return verdict.backend, "", "", "", seconds, verdict.note
    flips = f"{parity.num_flips} of {parity.num_pairs}"
    gaps = f"{parity.mean_gap:.1e}", f"{parity.max_gap:.1e}"
    return verdict.backend, *gaps, flips, seconds, verdict.note


def _free() -> None:
    """Give memory back before the next model wants it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
