"""Models continuous-batching engines: response lengths and slots in, seconds and fill out.

An engine has S slots. Every running response writes one token a step; a response that ends frees
its slot at once, and the next row of the queue takes it. With B responses running in each engine

    step(B) = max(fixed + per_response x B, computing x B)                         seconds

and for every row that takes a slot all others of its engine wait `prefill` seconds, while its
prompt is read. Engines that draw from one queue are modelled as one with the slots of all, whose
responses are spread evenly. Loading comes before the first step. The tail is the time after the
last row has taken its slot: slots fall empty, and nothing is there to fill them.

Left out: responses that are put off when the KV cache overflows, prompts that are read beside
decoding, and the time that rows take on their way.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from persyn_ray.method.arrays import Floats, Integers

FILLS = 50  # of all slots that are simulated row by row; what comes beside is like them
SIGMA = 0.75  # of the logarithm of response lengths, where none are known


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step, by the number of responses that one engine works on."""

    fixed: float
    """Reading the weights."""
    per_response: float = 0.0
    """Reading the KV cache of one response."""
    computing: float = 0.0
    """Arithmetic of one token."""
    prefill: float = 0.0
    """Reading one prompt."""

    def seconds(self, running: Floats | float) -> Floats:
        """One step with so many responses running."""
        running = np.asarray(running, np.float64)
        return np.maximum(self.fixed + self.per_response * running, self.computing * running)

    def scaled(self, factor: float) -> "StepTime":
        """The same, slower by a factor."""
        parts = (self.fixed, self.per_response, self.computing, self.prefill)
        return StepTime(*(part * factor for part in parts))


@dataclass(frozen=True)
class EngineModel:
    """Engines of one kind that draw from one queue."""

    slots: int
    """Responses that one engine works on at once: `max_num_seqs`, or what its KV cache holds."""
    step: StepTime
    load_seconds: float = 0.0
    engines: int = 1

    def __post_init__(self) -> None:
        if self.slots < 1 or self.engines < 1:
            raise ValueError(
                f"slots={self.slots} and engines={self.engines} must both be at least 1"
            )

    def full_seconds(self, rows: float, mean_length: float) -> float:
        """Time of some rows if all slots were filled from the first step to the last."""
        step = float(self.step.seconds(self.slots))
        return rows * (mean_length * step / self.slots + self.step.prefill) / self.engines


@dataclass(frozen=True)
class Occupancy:
    """How long engines took, and how full they were."""

    slots: int
    """Of one engine."""
    seconds: float
    """Loading included."""
    running_mean: float
    """Responses running in one engine, mean over the time after loading."""
    tail_seconds: float
    load_seconds: float = 0.0

    @property
    def filled(self) -> float:
        """Mean share of the slots that were filled."""
        return self.running_mean / self.slots

    @property
    def writing_seconds(self) -> float:
        """Time after loading."""
        return self.seconds - self.load_seconds


def simulate_rows(engine: EngineModel, lengths_N: Integers) -> Occupancy:
    """Rows that stream: whenever a slot is free, the next row of the queue takes it.

    Args:
        lengths_N: tokens of each response, at least 1, in the order of the queue.
    """
    lengths: list[int] = _checked(lengths_N).tolist()
    all_slots = engine.slots * engine.engines
    ends, dry = lengths[:all_slots], 0
    heapq.heapify(ends)
    for length in lengths[all_slots:]:
        dry = ends[0]
        heapq.heapreplace(ends, dry + length)
    # Full up to step `dry`; from there on one response after the other ends.
    spans_S = np.diff(np.sort(np.array(ends, np.int64)), prepend=dry)
    running_S = np.arange(len(ends), 0, -1) / engine.engines
    tail_S = spans_S * engine.step.seconds(running_S)
    full = dry * float(engine.step.seconds(engine.slots))
    reading = len(lengths) * engine.step.prefill / engine.engines
    filled = (full + reading) * float(running_S.max(initial=0.0))
    busy = filled + float((tail_S * running_S).sum())
    return _occupancy(engine, full + reading + float(tail_S.sum()), busy, float(tail_S.sum()))


def simulate_many_rows(
    engine: EngineModel, sample_N: Integers, rows: int, seed: int = 0
) -> Occupancy:
    """As `simulate_rows` over so many rows whose lengths are drawn from a sample.

    Only so many rows as fill the slots FILLS times are simulated one by one. The others run at full
    slots, which is what engines do that have rows enough.
    """
    sample_N = _checked(sample_N)
    simulated = min(rows, FILLS * engine.slots * engine.engines)
    drawn_N = np.random.default_rng(seed).choice(sample_N, simulated)
    found = simulate_rows(engine, drawn_N)
    more = engine.full_seconds(rows - simulated, float(sample_N.mean()))
    busy = found.running_mean * found.writing_seconds + engine.slots * more
    return _occupancy(engine, found.writing_seconds + more, busy, found.tail_seconds)


def simulate_units(engine: EngineModel, units: Iterable[Integers], in_flight: int) -> Occupancy:
    """Rows that come in units (files, batches), of which `in_flight` at most are at work.

    A unit ends with its longest response, and only then does another one come. This is what makes
    engines run empty; rows that stream are units of one row, and as many of them as there are.
    """
    todo = deque((number, _checked(unit_N).tolist()) for number, unit_N in enumerate(units))
    waiting: deque[tuple[int, int]] = deque()
    running: list[tuple[int, int]] = []
    left: dict[int, int] = {}
    now, seconds, busy, dry = 0, 0.0, 0.0, 0.0
    step_B = engine.step.seconds(np.arange(engine.slots * engine.engines + 1) / engine.engines)
    while todo or waiting or running:
        while todo and len(left) < in_flight:
            number, lengths = todo.popleft()
            if lengths:
                left[number] = len(lengths)
                waiting.extend((length, number) for length in lengths)
        taken = min(len(waiting), len(step_B) - 1 - len(running))
        for length, number in [waiting.popleft() for _ in range(taken)]:
            heapq.heappush(running, (now + length, number))
        if not running:  # the last units were empty
            break
        end, dry = running[0][0], seconds if taken else dry
        span = (end - now) * float(step_B[len(running)])
        span += taken * engine.step.prefill / engine.engines
        seconds += span
        busy += span * len(running) / engine.engines
        now = end
        while running and running[0][0] == end:
            _, number = heapq.heappop(running)
            left[number] -= 1
            if not left[number]:
                del left[number]
    return _occupancy(engine, seconds, busy, seconds - dry)


def lognormal_lengths(
    number: int, mean: float, most: int, sigma: float = SIGMA, seed: int = 0
) -> Integers:
    """Response lengths in tokens from 1 to `most`; `mean` is theirs before they are cut there."""
    drawn_N = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, number)
    return np.clip(np.round(drawn_N), 1, most).astype(np.int64)


def _occupancy(engine: EngineModel, writing: float, busy: float, tail: float) -> Occupancy:
    return Occupancy(
        slots=engine.slots,
        seconds=engine.load_seconds + writing,
        running_mean=busy / writing if writing else 0.0,
        tail_seconds=tail,
        load_seconds=engine.load_seconds,
    )


def _checked(lengths_N: Integers) -> Integers:
    lengths_N = np.asarray(lengths_N)
    if lengths_N.size and lengths_N.min() < 1:
        raise ValueError(f"a response has at least 1 token; found {lengths_N.min()}")
    return lengths_N
