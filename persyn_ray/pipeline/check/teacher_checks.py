"""Checks of the teachers: settings and prompts in; what each reads, and whether it answers, out.

An endpoint is asked for one response, with the teacher's own settings; that costs what one response
costs, and no ledger counts it. Teachers that run here are not started: their files and templates
are looked at.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field

from persyn_ray.engines.base import Completion, Engine, Message, Request, with_system_prompt
from persyn_ray.engines.build import build_engine
from persyn_ray.errors import PersynError
from persyn_ray.escaping import one_line
from persyn_ray.pipeline.check.findings import Finding, refused
from persyn_ray.pipeline.check.model_checks import NOT_HERE, is_here
from persyn_ray.pipeline.check.prompt_checks import Prompts, as_sent
from persyn_ray.pipeline.plan.prompt_counts import without_network
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.engines import (
    OpenAIEngineConfig,
    RecordedEngineConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.scoring import JudgeConfig, ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.numbers import count
from persyn_ray.storage.layout import parts_of
from persyn_ray.storage.usage import Usage

AT_ONCE = 8  # teachers that are asked beside one another
ATTEMPTS = 2  # at the one request: whoever waits wants to know
LONGEST_ANSWER = 120  # characters that are shown
LONGEST_SAMPLE = 600
SAMPLE = Message(role="user", content="What is 2 + 2?")  # where no prompts could be read


@dataclass(frozen=True)
class Pool:
    """The teachers, with what their engines are built from."""

    teachers: tuple[TeacherConfig, ...]
    names: TeacherPool
    responses: ResponsesConfig
    answers: dict[str, str] = field(default_factory=dict)
    """What endpoints have answered to the first prompt, by teacher; filled when they are asked."""

    def engine(self, teacher: TeacherConfig) -> Engine:
        """The engine of one of them, for a single try."""
        engine = teacher.engine
        if isinstance(engine, OpenAIEngineConfig):
            fewer = engine.model_copy(update={"attempts": min(ATTEMPTS, engine.attempts)})
            teacher = teacher.model_copy(update={"engine": fewer})
        return build_engine(teacher, self.names, self.responses)


def check_teachers(pool: Pool, offline: bool, prompts: Prompts) -> Iterator[Finding]:
    """Every teacher that is not retired, in the recipe's order; several are asked at once."""
    active = [teacher for teacher in pool.teachers if not teacher.retired]
    with ThreadPoolExecutor(AT_ONCE) as threads, _network(offline):
        yield from threads.map(lambda teacher: _teacher(pool, teacher, offline, prompts), active)


def check_judges(pool: Pool, scoring: ScoringConfig, offline: bool) -> Iterator[Finding]:
    """Judges at endpoints: reachable, with their keys; nothing is graded."""
    for part in parts_of(scoring):
        if isinstance(part.quality, JudgeConfig) and not offline:
            teacher = part.quality.as_teacher()
            try:
                pool.engine(teacher).check()
            except PersynError as error:
                yield refused(f"judge {part.name}", error)
            else:
                yield Finding(f"judge {part.name}", "ok", f"Engine {teacher.engine.kind} is there.")


def _network(offline: bool):
    return without_network() if offline else nullcontext()


def _teacher(pool: Pool, teacher: TeacherConfig, offline: bool, prompts: Prompts) -> Finding:
    name, engine = f"teacher {teacher.name}", teacher.engine
    is_local = isinstance(engine, TransformersEngineConfig | VllmEngineConfig)
    if offline and isinstance(engine, OpenAIEngineConfig):
        text = f"{engine.model} at {engine.base_url}: not asked (--offline)."
        return Finding(name, "remark", text, shared="Endpoints, not asked (--offline):")
    if offline and is_local and not is_here(engine.model):
        shared = "Models that are not on this machine, not looked at (--offline):"
        return Finding(name, "remark", NOT_HERE.format(engine.model.name), shared=shared)
    try:
        built = pool.engine(teacher)
        try:
            return _tried(pool, teacher, built, prompts, offline)
        finally:
            built.close()
    except PersynError as error:
        return refused(name, error)
    except ImportError as error:
        return refused(name, error, "pip install 'persyn-ray[run]'")


def _tried(
    pool: Pool, teacher: TeacherConfig, engine: Engine, prompts: Prompts, offline: bool
) -> Finding:
    name = f"teacher {teacher.name}"
    if not (offline and isinstance(teacher.engine, VllmEngineConfig)):  # asks for vLLM itself
        engine.check()
    conversations = prompts.conversations or [[SAMPLE]]
    requests = [Request(f"check-{n}", messages) for n, messages in enumerate(conversations)]
    whys = [why for request in requests if (why := engine.refuses(request)) is not None]
    if len(whys) == len(requests):
        return Finding(name, "problem", f"It can take no prompt: {whys[0]}")
    if isinstance(teacher.engine, OpenAIEngineConfig):
        return _asked(pool, teacher, engine, requests[0])
    if isinstance(teacher.engine, RecordedEngineConfig):
        return _looked_up(name, engine.generate(requests))
    taken = f"{count(len(requests) - len(whys))} of {count(len(requests))} prompts tried fit"
    if whys:
        return Finding(name, "remark", f"{taken}; the first that does not: {whys[0]}")
    told = f"Engine {teacher.engine.kind}: {taken}."
    return Finding(name, "ok", told, shared=f"{told[:-1]}:")


def _looked_up(name: str, found: Sequence[Completion]) -> Finding:
    """Whether a recording holds answers to these very prompts."""
    there = sum(completion.text is not None for completion in found)
    text = f"{count(there)} of {count(len(found))} prompts tried have a recorded response."
    fix = "Compare engine.prompt_column with prompts.column and prompts.template."
    if not there:
        return Finding(name, "problem", text, fix)
    return Finding(name, "ok" if there == len(found) else "remark", text)


def _asked(pool: Pool, teacher: TeacherConfig, engine: Engine, request: Request) -> Finding:
    """One real request: its answer, how long it took and what it cost."""
    name = f"teacher {teacher.name}"
    began = time.monotonic()
    (answer,) = engine.generate([request])
    seconds = time.monotonic() - began
    if answer.text is None:
        return Finding(name, "problem", answer.error or answer.finish_reason)
    pool.answers[teacher.name] = answer.text
    usage = Usage(answer.num_prompt_tokens, answer.num_tokens)
    price = "no price is given" if teacher.price is None else f"${usage.dollars(teacher.price):.6f}"
    text = one_line(answer.text, LONGEST_ANSWER)
    told = (
        f"answered in {seconds:.1f} s, {count(usage.prompt)} + {count(usage.response)} tokens, "
        f"{price}: “{text}”"
    )
    if answer.finish_reason != "stop":
        limit = count(teacher.sampling.max_tokens)
        fix = f"Raise sampling.max_tokens ({limit}) or set sampling.retry_tokens."
        return Finding(name, "remark", f"{told}; it was cut ({answer.finish_reason}).", fix)
    return Finding(name, "ok", f"{told}.")


def samples_of(
    teachers: Sequence[TeacherConfig], offline: bool, prompts: Prompts
) -> Iterator[Finding]:
    """Three prompts as the first teacher whose template is at hand reads them."""
    for teacher in teachers:
        if teacher.retired or not prompts.samples:
            continue
        texts = _texts(teacher, offline, prompts)
        if texts:
            yield Finding("samples", "ok", f"What teacher {teacher.name} reads:", None, texts)
            return


def _texts(teacher: TeacherConfig, offline: bool, prompts: Prompts) -> tuple[str, ...]:
    """Prompts through a teacher's chat template, or as an endpoint is sent them."""
    found: list[str] = []
    for place, messages in prompts.samples:
        whole = with_system_prompt(messages, teacher.system_prompt)
        text = as_sent(whole)
        engine = teacher.engine
        if isinstance(engine, TransformersEngineConfig | VllmEngineConfig):
            if offline and not is_here(engine.model):
                return ()
            rendered = _rendered(teacher, engine, Request("sample", messages), offline)
            if rendered is None:
                return ()
            text = rendered
        shown = text if len(text) <= LONGEST_SAMPLE else f"{text[:LONGEST_SAMPLE]} …"
        found.append(f"[{place}]\n{shown}")
    return tuple(found)


def _rendered(
    teacher: TeacherConfig,
    engine: TransformersEngineConfig | VllmEngineConfig,
    request: Request,
    offline: bool,
) -> str | None:
    """A prompt with all that the template adds; None where it cannot be rendered."""
    try:
        from persyn_ray.engines.prompting import PromptEncoder

        with _network(offline):
            encoder = PromptEncoder(
                teacher.name,
                engine.model,
                teacher.sampling.max_tokens,
                teacher.system_prompt,
                teacher.template_kwargs,
            )
            encoded = encoder.encode(request)
            ids = None if isinstance(encoded, Completion) else encoded.ids
            return None if ids is None else str(encoder.tokenizer.decode(ids))
    except (PersynError, ImportError):  # the teacher's own finding says so
        return None
