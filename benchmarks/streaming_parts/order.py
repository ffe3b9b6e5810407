"""The order of an engine's rows: how much sooner it ends, on lengths that real systems wrote.

A simulation of the engine (`scheduling/engine_model.py`), with even steps and with those of an 8B
model on an H100; the lengths are those of public tables of recorded responses, a token counted as
four characters. Of each system's responses 400 stand for the parallel set, by which lengths are
foretold; of the others it answers four for each of its slots, as they lie, in the project's order,
and in that order with the true lengths foretold, which is the most that could be gained.

Beside it what prompts with common beginnings keep of them: documents of 1,500 tokens with five
questions each, on an engine that remembers the beginnings used last.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from publishing import ROOT

from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.recipe.gpus import GPUS
from persyn_ray.recipe.teachers import BYTES_PER_TOKEN
from persyn_ray.scheduling.engine_model import EngineModel, StepTime, simulate_rows
from persyn_ray.scheduling.gpu_memory import Gpu, Layout, ModelSize, step_time
from persyn_ray.scheduling.row_order import NONE, fit_lengths, stretches

DATA = ROOT / "../shared/data"
TABLES = {  # columns of the prompt and of the task
    "gsm8k": ("question", None),
    "alpaca_eval": ("instruction", "dataset"),
    "mmlu_pro": ("prompt", "task"),
    "reasoning_gym": ("prompt", "task"),
    "faithful_cot": ("prompt", "task"),
    "crux": ("prompt", None),
}
NUM_PARALLEL, MOST_ROUTED, ROWS_PER_SLOT, FEWEST, DRAWS = 400, 1024, 4, 200, 10
LLAMA_8B = ModelSize(8.03e9, 8.03e9, 16.06e9, 2 * 32 * 8 * 128 * 2, 8, 131_072)
DOCUMENTS, QUESTIONS, KEPT = 400, 5, 32


def steps(lengths_N: Integers) -> dict[str, StepTime]:
    """Even steps, and those of the 8B model with responses of these lengths."""
    gpu = GPUS["h100"]
    told = Gpu(gpu.memory_gib * 2.0**30, gpu.bandwidth_gb * 1e9, gpu.tflops * 1e12)
    held = float((lengths_N**2).mean() / lengths_N.mean()) / 2
    return {"even": StepTime(0.02), "8b_on_h100": step_time(LLAMA_8B, Layout(), held, told)}


def ordered(expected_N: Floats, beginnings_N: Integers | None = None) -> Integers:
    """Places of all rows in the project's order."""
    alone_N = np.full(len(expected_N), NONE)
    beginnings = {"a": alone_N if beginnings_N is None else beginnings_N}
    rows = {"a": range(len(expected_N))}
    found = [some for _, some in stretches(rows, {"a": expected_N}, beginnings)]
    return np.concatenate([np.array(some, np.int64) for some in found])


def systems(
    path: Path, prompt: str, task: str | None
) -> Iterator[tuple[Integers, Integers, Floats]]:
    """Of each system: tokens of its responses, tasks and lengths of the prompts."""
    columns = [prompt, "teacher", "response"] + ([task] if task else [])
    table = pq.read_table(path, columns=columns)
    names = np.array(table["teacher"].to_pylist())
    chars_N = np.array([float(len(text or "")) for text in table[prompt].to_pylist()])
    sizes_N = np.array([len(text or "") for text in table["response"].to_pylist()])
    labels = table[task].to_pylist() if task else [""] * len(names)
    _, tasks_N = np.unique(np.array(labels, dtype=str), return_inverse=True)
    for name in sorted(set(names.tolist())):
        mine = np.flatnonzero((names == name) & (sizes_N > 0))
        if len(mine) >= NUM_PARALLEL + FEWEST:
            tokens_N = np.maximum(sizes_N[mine] // BYTES_PER_TOKEN, 1)
            yield tokens_N, tasks_N[mine], chars_N[mine]


def of_table(path: Path, prompt: str, task: str | None, seed: int) -> dict[str, Any]:
    """Means over the systems of a table, and their spread."""
    rng = np.random.default_rng(seed)
    found = [of_system(*one, rng) for one in systems(path, prompt, task)]
    ratios = np.array([one["time_8b_on_h100_foretold"] for one in found])
    mean = {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}
    error = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
    return {"systems": len(found)} | mean | {"standard_error": round(error, 4)}


def of_system(
    tokens_N: Integers, tasks_N: Integers, chars_N: Floats, rng: np.random.Generator
) -> dict[str, float]:
    """Times in three orders over so many draws, as multiples of those with rows as they lie."""
    seconds: dict[str, list[float]] = defaultdict(list)
    correlations: list[float] = []
    for _ in range(DRAWS):
        drawn = rng.permutation(len(tokens_N))
        known, asked = drawn[:NUM_PARALLEL], drawn[NUM_PARALLEL:][:MOST_ROUTED]
        tasks = int(tasks_N.max()) + 1
        model = fit_lengths(tokens_N[known], tasks_N[known], chars_N[known], tasks)
        assert model is not None
        lengths_N, foretold_N = tokens_N[asked], model.expected(tasks_N[asked], chars_N[asked])
        correlations.append(float(np.corrcoef(foretold_N, np.log1p(lengths_N))[0, 1]))
        orders = {"foretold": ordered(foretold_N), "known": ordered(np.log1p(lengths_N))}
        for kind, step in steps(lengths_N).items():
            engine = EngineModel(max(1, len(asked) // ROWS_PER_SLOT), step)
            seconds[kind].append(simulate_rows(engine, lengths_N).seconds)
            for name, order_N in orders.items():
                seconds[f"{kind}_{name}"].append(simulate_rows(engine, lengths_N[order_N]).seconds)
    total = {name: sum(of) for name, of in seconds.items()}
    return {"correlation": float(np.nanmean(correlations))} | {
        f"time_{kind}_{name}": total[f"{kind}_{name}"] / total[kind]
        for kind in ("even", "8b_on_h100")
        for name in ("foretold", "known")
    }


def beginnings(seed: int) -> dict[str, float]:
    """Share of the questions whose document is remembered, by the order in which they are asked."""
    documents_N = np.repeat(np.arange(DOCUMENTS), QUESTIONS)
    expected_N = np.random.default_rng(seed).normal(size=len(documents_N))
    orders = {
        "as_they_lie": np.arange(len(documents_N)),
        "by_length_alone": ordered(expected_N),
        "in_our_order": ordered(expected_N, documents_N),
    }
    found = {name: _remembered(documents_N[order_N]) for name, order_N in orders.items()}
    mixed_N = np.random.default_rng(seed + 1).permutation(documents_N)
    return found | {
        "mixed_as_they_lie": _remembered(mixed_N),
        "mixed_in_our_order": _remembered(mixed_N[ordered(expected_N, mixed_N)]),
    }


def _remembered(documents_N: Integers) -> float:
    kept, hits = OrderedDict[int, None](), 0
    for document in documents_N.tolist():
        hits += document in kept
        kept[document] = None
        kept.move_to_end(document)
        if len(kept) > KEPT:
            kept.popitem(last=False)
    return round(hits / len(documents_N), 4)


def measure(seed: int = 0) -> dict[str, Any]:
    """Times as multiples of those with rows as they lie; tables that are not here are left out."""
    paths = {name: DATA / f"{name}_parallel.parquet" for name in TABLES}
    tables = {
        name: of_table(paths[name], prompt, task, seed)
        for name, (prompt, task) in TABLES.items()
        if paths[name].exists()
    }
    return {
        "simulation": "a model of an engine on recorded lengths; no model runs",
        "rows_per_slot": ROWS_PER_SLOT,
        "num_parallel": NUM_PARALLEL,
        "tables": tables,
        "beginnings_remembered": beginnings(seed),
    }
