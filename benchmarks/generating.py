"""What benchmarks of generation share: vLLM behind ray.data.llm, rates, and processes of their own.

Each way to generate is measured in a process of its own, which prints its rate last.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


def rate(done: list[tuple[float, int]]) -> float:
    """Tokens per second after the first eighth, from (time, tokens) of what was finished."""
    done = sorted(done)
    first = len(done) // 8
    tokens = sum(number for _, number in done[first + 1 :])
    return tokens / (done[-1][0] - done[first][0])


def by_ray_data_llm(
    texts: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    sampling: Mapping[str, Any],
    batch_size: int,
    in_flight: int,
) -> list[tuple[float, list[int]]]:
    """Ray's own layer over vLLM, with its stages at their defaults: when each batch was finished,
    and the lengths of its responses in tokens."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=dict(arguments),
        batch_size=batch_size,
        max_concurrent_batches=in_flight,
        concurrency=(1, 1),
        placement_group_config={"bundles": [{"CPU": 1}]},
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "messages": [{"role": "user", "content": row["text"]}],
            "sampling_params": dict(sampling),
        },
        postprocess=lambda row: {"tokens": row["num_generated_tokens"]},
    )
    blocks = max(1, len(texts) // batch_size)
    data = ray.data.from_items([{"text": text} for text in texts], override_num_blocks=blocks)
    done: list[tuple[float, list[int]]] = []
    for batch in processor(data).iter_batches(batch_size=None, prefetch_batches=0):
        done.append((time.monotonic(), [int(tokens) for tokens in batch["tokens"]]))
    ray.shutdown()
    return done


def rate_of_process(
    way: str, command: Sequence[str], environment: Mapping[str, str], seconds: int
) -> float | None:
    """The rate that a command prints last; None where it does not run."""
    try:
        ended = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        print(f"{way} did not end in {seconds} s", file=sys.stderr)
        return None
    if ended.returncode:
        print(f"{way} failed:\n{ended.stderr[-3000:]}", file=sys.stderr)
        return None
    return float(ended.stdout.strip().splitlines()[-1])
