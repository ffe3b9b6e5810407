"""Forecasts how full a teacher's engines will be: rows, lengths and slots in, fill and cause out.

The model is scheduling/engine_model.py: rows stream to each engine, which holds as many as it has
slots. Slots and step time come from the teacher's settings and the GPU's memory; after step collect
the step time is the one with which the model takes as long as collect did. Where no response is
stored, time is reckoned at the token limit and is a bound, but how full engines are depends on how
lengths spread: they are then assumed lognormal around a part of the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from persyn_ray.method.arrays import Integers
from persyn_ray.pipeline.choices import VLLM_SEQUENCES, resources_of
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length, Stored
from persyn_ray.pipeline.plan.model_sizes import arguments_of
from persyn_ray.pipeline.plan.placement import Placed
from persyn_ray.recipe.engines import OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.scheduling.engine_model import (
    EngineModel,
    Occupancy,
    StepTime,
    lognormal_lengths,
    simulate_many_rows,
    simulate_units,
)
from persyn_ray.scheduling.gpu_memory import step_time
from persyn_ray.storage.results import EngineUse, TeacherProgress

LEAST_WRITING = 0.1  # share of a pool's time that was not loading, at the least
ASSUMED_MEAN = 0.2  # of the token limit: mean length of responses before any is stored
SAMPLE = 4096  # lengths that stand for all of an assumed spread
BATCHES = 1000  # that are simulated one by one of an engine that ends one before the next
RATE_SHARE = 0.5  # an endpoint with fewer requests under way than this much of the model's is slow
SEQUENCES, CACHE = "max_num_seqs", "KV cache"  # what sets the slots of vLLM
REQUESTS, RATE = "max_requests", "rate"  # of an endpoint
BATCHED = "batch_size"  # of an engine that ends a whole batch before it takes the next rows


@dataclass(frozen=True)
class EngineForecast:
    """How full a teacher's engines will be in a step."""

    slots: int
    """Responses that one engine works on at once."""
    limited_by: str
    """What sets the slots: one of the names above."""
    engines: int
    """Engines that are started."""
    rows: float
    """Of one engine."""
    running_mean: float
    """Responses running in one engine, mean over the time in which it writes."""
    tail_share: float
    """Share of that time after the last row has taken its slot."""
    is_assumed: bool
    """Whether the spread of lengths is assumed, as no response is stored yet."""

    @property
    def filled(self) -> float:
        """Mean share of the slots that is filled."""
        return self.running_mean / self.slots


@dataclass(frozen=True)
class Writing:
    """An engine and the lengths of what it writes."""

    model: EngineModel
    limited_by: str
    lengths_N: Integers
    """A sample of the lengths in tokens."""

    def full_seconds(self, rows: float) -> float:
        """Time of one engine that does everything at full slots."""
        return self.model.full_seconds(rows, float(self.lengths_N.mean()))

    def tail_seconds(self, rows: float) -> float:
        """Time that one engine takes beyond full slots, because in the end it runs empty."""
        return max(0.0, self.run(rows).writing_seconds - self.full_seconds(rows))

    def run(self, rows: float, engines: int = 1) -> Occupancy:
        """Some rows on so many engines that share one queue."""
        model, number = replace(self.model, engines=engines), max(1, round(rows))
        if self.limited_by != BATCHED:
            return simulate_many_rows(model, self.lengths_N, number)
        return _run_batches(model, self.lengths_N, number)

    def calibrated(self, done: TeacherProgress, engines: int, writing_seconds: float) -> "Writing":
        """With the step time by which the model takes as long as a pool has taken.

        An endpoint that never had as many requests under way as it was given gets fewer slots.
        """
        writing, modelled = self, self.run(done.rows, engines)
        if _is_held_back(self.limited_by, modelled, done.engine):
            assert done.engine is not None
            fewer = replace(self.model, slots=max(1, math.ceil(done.engine.running_mean)))
            writing = replace(self, model=fewer, limited_by=RATE)
            modelled = writing.run(done.rows, engines)
        step = self.model.step.scaled(writing_seconds / modelled.writing_seconds)
        return replace(writing, model=replace(writing.model, step=step))


@dataclass(frozen=True)
class TeacherEngine:
    """One teacher's engine, for its time and for its fill."""

    timed: Writing
    """With the lengths that are stored, or the limit of all."""
    filled: Writing
    """The same, or with lengths that spread as is assumed."""
    is_timed: bool
    """Whether a step is in seconds; otherwise only the fill is known."""

    @property
    def is_assumed(self) -> bool:
        """Whether the lengths for the fill are assumed."""
        return self.filled.lengths_N is not self.timed.lengths_N

    def forecast(self, rows: float, parts: Sequence[tuple[int, float]]) -> EngineForecast:
        """How full the engines will be.

        Args:
            parts: engines that share a queue, and their share of the rows.
        """
        runs = [(engines, self.filled.run(rows * share, engines)) for engines, share in parts]
        seconds = sum(engines * run.writing_seconds for engines, run in runs)
        busy = sum(engines * run.running_mean * run.writing_seconds for engines, run in runs)
        tails = sum(engines * run.tail_seconds for engines, run in runs)
        started = sum(engines for engines, _ in runs)
        return EngineForecast(
            slots=self.filled.model.slots,
            limited_by=self.filled.limited_by,
            engines=started,
            rows=rows / started,
            running_mean=busy / seconds,
            tail_share=tails / seconds,
            is_assumed=self.is_assumed,
        )


def teacher_engine(
    teacher: TeacherConfig, placed: Placed | None, length: Length, stored: Stored
) -> TeacherEngine | None:
    """A teacher's engine as its settings say; None if it writes nothing step by step."""
    if length.response < 1:
        return None
    bound_N, spread_N = _lengths(length, stored)
    timed = _writing(teacher, placed, length.prompt, bound_N)
    filled = timed if bound_N is spread_N else _writing(teacher, placed, length.prompt, spread_N)
    if timed is None or filled is None:
        return None
    is_timed = placed is not None or resources_of(teacher).tokens_per_second is not None
    return TeacherEngine(timed, filled, is_timed)


def calibrated(
    engine: TeacherEngine, done: TeacherProgress, engines: int, load_seconds: float
) -> TeacherEngine:
    """The engine as fast as its pool was in step collect, loading left out."""
    seconds = max(done.seconds - load_seconds, LEAST_WRITING * done.seconds)
    timed = engine.timed
    if engine.is_assumed:  # nothing is stored any more: the mean is all that is known
        mean = max(1, round(done.tokens / max(1, done.rows)))
        timed = replace(timed, lengths_N=np.array([mean]))
    timed = replace(timed.calibrated(done, engines, seconds), lengths_N=engine.timed.lengths_N)
    filled = engine.filled.calibrated(done, engines, seconds) if engine.is_assumed else timed
    return TeacherEngine(timed, filled, is_timed=True)


def _run_batches(model: EngineModel, lengths_N: Integers, rows: int) -> Occupancy:
    """Batches one after the other; those beyond BATCHES are like the ones that are simulated."""
    rounds = max(0, rows // model.slots - BATCHES) // model.engines
    simulated = rows - rounds * model.engines * model.slots
    drawn_N = np.random.default_rng(0).choice(lengths_N, simulated)
    batches = np.split(drawn_N, range(model.slots, simulated, model.slots))
    found = simulate_units(model, batches, in_flight=model.engines)
    if not rounds:
        return found
    full = [batch for batch in batches if len(batch) == model.slots]
    alone = simulate_units(replace(model, engines=1), full, in_flight=1)
    more = rounds * alone.writing_seconds / len(full)
    busy = found.running_mean * found.writing_seconds + alone.running_mean * more
    mean = busy / (found.writing_seconds + more)
    return replace(found, seconds=found.seconds + more, running_mean=mean)


def _is_held_back(limited_by: str, modelled: Occupancy, use: EngineUse | None) -> bool:
    if use is None or limited_by != REQUESTS:
        return False
    return use.running_mean < RATE_SHARE * modelled.running_mean


def _writing(
    teacher: TeacherConfig, placed: Placed | None, prompt_tokens: float, lengths_N: Integers
) -> Writing | None:
    """The engine for responses of these lengths."""
    # Over time most of what runs are long responses, and on average they are half written.
    held = prompt_tokens + float((lengths_N**2).mean() / lengths_N.mean()) / 2
    slots = _slots(teacher, placed, held)
    if slots is None:
        return None
    step = _step(teacher, placed, held, prompt_tokens, slots[0])
    return Writing(EngineModel(slots[0], step), slots[1], lengths_N)


def _slots(teacher: TeacherConfig, placed: Placed | None, held: float) -> tuple[int, str] | None:
    """Responses at once, and what limits them; None of an engine that writes nothing."""
    engine, resources = teacher.engine, resources_of(teacher)
    if isinstance(engine, TransformersEngineConfig):
        return engine.batch_size, BATCHED
    if isinstance(engine, OpenAIEngineConfig):
        return resources.max_requests, REQUESTS
    if not isinstance(engine, VllmEngineConfig):
        return None
    if placed is None:
        return int(arguments_of(teacher).get("max_num_seqs", VLLM_SEQUENCES)), SEQUENCES
    number = placed.at_once(held)
    return number, CACHE if number < placed.most_at_once else SEQUENCES


def _step(
    teacher: TeacherConfig, placed: Placed | None, held: float, prompt_tokens: float, slots: int
) -> StepTime:
    """Time of a step; 1 where nothing is known of it."""
    speed = resources_of(teacher).tokens_per_second
    step = StepTime(1.0)
    if placed is not None:
        held = min(held, placed.length)
        step = step_time(placed.model, placed.layout, held, placed.gpu, prompt_tokens)
    if speed is None:
        return step
    # What is given is the speed of a full engine, the reading of its prompts included.
    factor = slots / speed / float(step.seconds(slots))
    return replace(step.scaled(factor), prefill=0.0)


def _lengths(length: Length, stored: Stored) -> tuple[Integers, Integers]:
    """Lengths for time and for the fill."""
    if not length.is_bound and stored.num_tokens:
        lengths_N = np.maximum(np.array(stored.num_tokens, np.int64), 1)
        return lengths_N, lengths_N
    most = max(1, round(length.response))
    spread_N = lognormal_lengths(SAMPLE, max(1.0, ASSUMED_MEAN * most), most)
    return np.array([most]), spread_N
