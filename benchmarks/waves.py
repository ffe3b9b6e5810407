"""How close the wave scheduler comes to its lower bound: 19 teachers of 1.5B-405B on 8-64 GPUs.

    python benchmarks/waves.py           # writes benchmarks/results/waves.json
    python benchmarks/waves.py --quick   # fewer seeds, nothing written

A simulation: no model runs. Loads and work are reckoned from the sizes of the models and of the
GPUs below; what the figures say is how well a plan for such jobs can be packed.

    rate of an engine   sequences / (seconds a step), tokens/s
    seconds a step      max(bytes of weights and of all KV caches / bandwidth, FLOPs / arithmetic)
    work                responses * (response tokens / rate + prompt FLOPs / arithmetic)
    load                start-up + bytes of weights / read bandwidth of a node
"""

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from statistics import fmean
from typing import Any

import numpy as np
from publishing import publish

from persyn_ray.scheduling.schedule import Job, Schedule, lower_bound, schedule

GOAL = 1.15
SEED = 0
CLUSTERS = (8, 16, 32, 64)  # GPUs, in nodes of 8
NUM_PROMPTS, NUM_PARALLEL = 50_000, 2_500
NOISE_SIGMA = 0.2


@dataclass(frozen=True)
class Reckoning:
    """The GPUs, and how they are used."""

    gpu_memory_gb: float = 80.0
    gpu_bandwidth_gb: float = 3350.0  # H100 SXM
    gpu_tflops: float = 990.0  # dense bf16
    memory_used: float = 0.9
    bandwidth_reached: float = 0.6
    arithmetic_reached: float = 0.4
    most_sequences: int = 256
    least_sequences: int = 64  # an engine gets 1, 2, 4 or 8 GPUs: until so many fit at full length
    prompt_tokens: int = 300
    response_tokens: int = 600
    read_gb_per_second: float = 2.0
    start_up_seconds: float = 60.0


@dataclass(frozen=True)
class Size:
    """One teacher: billions of parameters, and the shape of its KV cache."""

    name: str
    billions: float
    layers: int
    kv_heads: int
    head_size: int
    weight_bytes: int = 2  # 1: FP8

    def memory_gb(self, sequences: float, tokens: float) -> float:
        """Weights, and keys and values in bf16."""
        kv_bytes = 2 * 2 * self.layers * self.kv_heads * self.head_size
        return self.billions * self.weight_bytes + sequences * tokens * kv_bytes / 1e9


TEACHERS = (
    Size("gemma-2-2b-it", 2.6, 26, 4, 256),
    Size("gemma-2-9b-it", 9.2, 42, 8, 256),
    Size("gemma-2-27b-it", 27.2, 46, 16, 128),
    Size("Meta-Llama-3-8B-Instruct", 8.0, 32, 8, 128),
    Size("Meta-Llama-3-70B-Instruct", 70.6, 80, 8, 128),
    Size("Meta-Llama-3.1-8B-Instruct", 8.0, 32, 8, 128),
    Size("Meta-Llama-3.1-70B-Instruct", 70.6, 80, 8, 128),
    Size("Meta-Llama-3.1-405B-Instruct-FP8", 405.9, 126, 8, 128, weight_bytes=1),
    Size("Phi-3-mini-128k-instruct", 3.8, 32, 32, 96),
    Size("Phi-3-small-128k-instruct", 7.4, 32, 8, 128),
    Size("Phi-3-medium-128k-instruct", 14.0, 40, 10, 128),
    Size("Qwen2-1.5B-Instruct", 1.5, 28, 2, 128),
    Size("Qwen2-7B-Instruct", 7.6, 28, 4, 128),
    Size("Qwen2-72B-Instruct", 72.7, 80, 8, 128),
    Size("Qwen2.5-3B-Instruct", 3.1, 36, 2, 128),
    Size("Qwen2.5-7B-Instruct", 7.6, 28, 4, 128),
    Size("Qwen2.5-14B-Instruct", 14.8, 48, 8, 128),
    Size("Qwen2.5-32B-Instruct", 32.8, 64, 8, 128),
    Size("Qwen2.5-72B-Instruct", 72.7, 80, 8, 128),
)


def job_of(teacher: Size, responses: float, of: Reckoning) -> Job:
    """What a teacher with so many responses to write asks of the cluster."""
    gpus, tokens = 1, of.prompt_tokens + of.response_tokens
    while gpus < 8 and teacher.memory_gb(of.least_sequences, tokens) > room_gb(gpus, of):
        gpus *= 2
    per_sequence_gb = teacher.memory_gb(1, tokens) - teacher.memory_gb(0, tokens)
    fit = (room_gb(gpus, of) - teacher.memory_gb(0, tokens)) / per_sequence_gb
    sequences = min(of.most_sequences, int(fit))
    arithmetic = gpus * of.gpu_tflops * 1e12 * of.arithmetic_reached
    token_flops = 2e9 * teacher.billions
    mean_tokens = of.prompt_tokens + of.response_tokens / 2
    step_seconds = max(
        teacher.memory_gb(sequences, mean_tokens)
        / (gpus * of.gpu_bandwidth_gb * of.bandwidth_reached),
        sequences * token_flops / arithmetic,
    )
    prompt_seconds = of.prompt_tokens * token_flops / arithmetic
    return Job(
        name=teacher.name,
        workers=gpus,
        per_node=gpus,
        load_seconds=of.start_up_seconds + teacher.memory_gb(0, 0) / of.read_gb_per_second,
        work_seconds=responses * (of.response_tokens * step_seconds / sequences + prompt_seconds),
        max_replicas=512,
    )


def room_gb(gpus: int, of: Reckoning) -> float:
    """Memory of an engine for weights and caches."""
    return gpus * of.gpu_memory_gb * of.memory_used


def zipf_shares() -> np.ndarray:
    """Shares 1 / rank^1.6, the smallest teacher first: 95 % go to those below 15B."""
    order_M = np.argsort([teacher.billions for teacher in TEACHERS], kind="stable")
    shares_M = np.empty(len(TEACHERS))
    shares_M[order_M] = np.arange(1, len(TEACHERS) + 1) ** -1.6
    return shares_M / shares_M.sum()


def workloads(num_seeds: int) -> Iterator[tuple[str, np.ndarray]]:
    """Phase and responses of each teacher: 2,500 of all, or 47,500 shared out."""
    yield "collect", np.full(len(TEACHERS), NUM_PARALLEL)
    rest = NUM_PROMPTS - NUM_PARALLEL
    yield "synthesize, Zipf shares", np.round(rest * zipf_shares())
    for concentration in (1.0, 0.3):
        for seed in range(SEED, SEED + num_seeds):
            shares_M = np.random.default_rng(seed).dirichlet([concentration] * len(TEACHERS))
            yield f"synthesize, Dirichlet({concentration:g})", np.round(rest * shares_M)


def jobs_of(responses_M: np.ndarray, of: Reckoning) -> list[Job]:
    """Jobs of the teachers that have anything to write."""
    return [
        job_of(teacher, float(responses), of)
        for teacher, responses in zip(TEACHERS, responses_M, strict=True)
        if responses
    ]


def measure(phase: str, jobs: list[Job], gpus: int, num_draws: int) -> dict[str, Any]:
    """One schedule: ratios to the bound, busy GPUs, speed of planning."""
    nodes = [8] * (gpus // 8)
    started = time.perf_counter()
    plan = schedule(jobs, nodes)
    seconds = time.perf_counter() - started
    loads = {job.name: job.load_seconds for job in jobs}
    held = sum(len(part.gpus) * (part.end - part.start) for part in plan.parts)
    loading = sum(len(part.gpus) * loads[part.job] for part in plan.parts)
    return {
        "phase": phase,
        "makespan_seconds": plan.makespan,
        "over_bound": plan.makespan / plan.bound,
        "over_whole_starts": plan.makespan / lower_bound(jobs, nodes, whole_starts=True),
        "busy_fraction": held / (gpus * plan.makespan),
        "loading_fraction": loading / (gpus * plan.makespan),
        "in_turn_over_bound": in_turn(jobs, gpus) / plan.bound,
        "noisy_parts": noisy(plan, num_draws, by_job=False) / plan.bound,
        "noisy_jobs": noisy(plan, num_draws, by_job=True) / plan.bound,
        "parts": len(plan.parts),
        "planning_seconds": seconds,
    }


def in_turn(jobs: list[Job], gpus: int) -> float:
    """The makespan of one teacher after the other, each on all GPUs."""
    return sum(job.load_seconds + job.work_seconds / (gpus // job.workers) for job in jobs)


def noisy(plan: Schedule, num_draws: int, by_job: bool) -> float:
    """Mean makespan when durations are off by log-normal factors of mean 1 and `after` is kept."""
    rng = np.random.default_rng(SEED)
    names = sorted({part.job for part in plan.parts})
    spans: list[float] = []
    for _ in range(num_draws):
        size = len(names) if by_job else len(plan.parts)
        factors = np.exp(NOISE_SIGMA * rng.standard_normal(size) - NOISE_SIGMA**2 / 2)
        ends: list[float] = []
        for position, part in enumerate(plan.parts):
            factor = factors[names.index(part.job) if by_job else position]
            start = max((ends[before] for before in part.after), default=0.0)
            ends.append(start + float(factor) * (part.end - part.start))
        spans.append(max(ends))
    return fmean(spans)


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Worst and mean of every figure of a set of schedules."""
    table: dict[str, float] = {"schedules": len(rows)}
    for key in rows[0].keys() - {"gpus", "phase", "planning_seconds"}:
        values = [row[key] for row in rows]
        table[f"{key}_worst"] = round(min(values) if key == "busy_fraction" else max(values), 4)
        table[f"{key}_mean"] = round(fmean(values), 4)
    return dict(sorted(table.items()))


def other_lengths(num_seeds: int) -> dict[str, dict[str, float]]:
    """The worst ratios when responses are shorter or longer, so that loads weigh more or less."""
    worst: dict[str, dict[str, float]] = {}
    for tokens in (100, 200, 2000, 6000):
        of = Reckoning(response_tokens=tokens)
        for gpus in CLUSTERS:
            rows = [
                measure(phase, jobs_of(responses_M, of), gpus, num_draws=1)
                for phase, responses_M in workloads(num_seeds)
            ]
            worst[f"{tokens} tokens, {gpus} GPUs"] = {
                key: round(max(row[key] for row in rows), 4)
                for key in ("over_bound", "over_whole_starts")
            }
    return worst


def large_plan_seconds() -> float:
    """Planning time of 40 jobs on 512 GPUs."""
    jobs = jobs_of(np.full(len(TEACHERS), NUM_PROMPTS), Reckoning())
    many = [replace(job, name=f"{job.name} {copy}") for copy in range(3) for job in jobs][:40]
    return measure("large", many, 512, num_draws=1)["planning_seconds"]


def figures_of(num_seeds: int, num_draws: int) -> dict[str, Any]:
    """Every cluster and workload once, as tables by cluster and by phase."""
    rows = [
        {"gpus": gpus, **measure(phase, jobs_of(responses_M, Reckoning()), gpus, num_draws)}
        for gpus in CLUSTERS
        for phase, responses_M in workloads(num_seeds)
    ]
    by_cluster, by_phase = defaultdict(list), defaultdict(list)
    for row in rows:
        by_cluster[f"{row['gpus']} GPUs"].append(row)
        by_phase[row["phase"]].append(row)
    spans = [[row["makespan_seconds"] for row in of] for of in by_cluster.values()]
    worst = max(rows, key=lambda row: row["over_bound"])
    return {
        "makespan_over_bound": round(worst["over_bound"], 4),
        "worst_case": {key: worst[key] for key in ("gpus", "phase")},
        "share_of_schedules_within_goal": fmean(row["over_bound"] <= GOAL for row in rows),
        "more_gpus_never_slower": all(
            sorted(of, reverse=True) == list(of) for of in zip(*spans, strict=True)
        ),
        "planning_seconds_worst": round(max(row["planning_seconds"] for row in rows), 3),
        "planning_seconds_40_jobs_512_gpus": round(large_plan_seconds(), 3),
        "by_cluster": {name: summary(of) for name, of in by_cluster.items()},
        "by_phase": {name: summary(of) for name, of in by_phase.items()},
        "worst_at_other_lengths": other_lengths(num_seeds),
    }


def main() -> None:
    """Plan, compare, print the result as one JSON line."""
    parser = argparse.ArgumentParser(
        description="Closeness of wave schedules to their lower bound."
    )
    parser.add_argument("--quick", action="store_true", help="few seeds; nothing is written")
    options = parser.parse_args()
    num_seeds, num_draws = (2, 4) if options.quick else (10, 20)
    of = Reckoning()
    result = {
        "name": "waves",
        "figures": figures_of(num_seeds, num_draws),
        "goals": {"makespan_over_bound": GOAL},
        "hardware": {"cpus": os.cpu_count(), "gpus": None},
        "versions": {
            "persyn-ray": version("persyn-ray"),
            "python": platform.python_version(),
            "numpy": version("numpy"),
        },
        "seed": SEED,
        "config": {
            "simulation": "no model runs; loads, work and noise are reckoned, nodes of 8 GPUs",
            "not_simulated": "several loads sharing a node's read bandwidth, pauses between parts",
            "bound": "linear relaxation: fractional engine starts; whole starts give a tighter one",
            "noise": f"log-normal, sigma {NOISE_SIGMA}, mean 1, on whole durations; shares fixed",
            "prompts": NUM_PROMPTS,
            "parallel_prompts": NUM_PARALLEL,
            "seeds": num_seeds,
            "draws": num_draws,
            "quick": options.quick,
            **asdict(of),
            "teachers": [
                {
                    "name": job.name,
                    "gpus": job.workers,
                    "load_seconds": round(job.load_seconds, 1),
                    "responses_per_second": round(1000 / job.work_seconds, 2),
                }
                for job in jobs_of(np.full(len(TEACHERS), 1000), of)
            ],
        },
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
