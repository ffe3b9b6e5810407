"""Memory of one worker: of its mapped examples, or of a micro-batch's logits; by peak RSS."""

import json
import sys
from pathlib import Path
from typing import Any

from sft_parts.job import given


def peak_mib() -> float:
    """The most that this process has held; getrusage would tell its parent's peak as well."""
    return _held("VmHWM")


def mib_now() -> float:
    """What this process holds now, which is less than its peak so far: gaps err to the large."""
    return _held("VmRSS")


def _held(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status tells no {name}")


def of_examples(num_millions: int) -> float:
    """MiB that a worker takes to map so many million tokens and to read each example once."""
    import numpy as np
    import pyarrow as pa

    from persyn_ray.models.finetune.order import GlobalBatches
    from persyn_ray.models.finetune.token_table import TokenTable, map_tokens, write_tokens
    from persyn_ray.storage.schemas import TOKENS

    length, part = 1_000, 500
    for number in range(num_millions * 2):  # half a million tokens a file
        ids = np.random.default_rng(number).integers(0, 49_000, part * length, dtype=np.int32)
        lists = pa.ListArray.from_arrays(np.arange(0, part * length + 1, length), pa.array(ids))
        names = pa.array([f"{number}-{row}" for row in range(part)])
        columns = [names, lists, pa.array([100] * part, pa.int32())]
        write_tokens(Path(f"{number}.arrow"), pa.table(columns, schema=TOKENS))
    before = mib_now()
    table = TokenTable(map_tokens([Path(f"{n}.arrow") for n in range(num_millions * 2)]), 0)
    for number in GlobalBatches(table.lengths, 32, seed=0):
        table[number]
    return peak_mib() - before


def of_logits(logits_at_once: int, num_tokens: int) -> float:
    """MiB above a small model with a vocabulary of 151,936 that a step on so many tokens takes."""
    import torch
    import transformers as hf

    from persyn_ray.models.chat import Example
    from persyn_ray.models.collate import sft_collator
    from persyn_ray.models.finetune import chunked_loss as chunked
    from persyn_ray.models.finetune.train import _response_loss

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 151_936}
    model: Any = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **heads)).train()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    example, before = Example([7] * num_tokens, 1), mib_now()
    batch: dict[str, Any] = dict(sft_collator([example], 0))
    num = torch.tensor(num_tokens - 1)
    if logits_at_once:
        with chunked.chunked_head(model, logits_at_once):
            found = chunked.with_places(lambda _: batch)([example])
            chunked.summed_loss(model(**found), found["labels"], num).backward()
    else:
        labels = batch.pop("labels")
        _response_loss(model(**batch), labels, num).backward()
    return peak_mib() - before


if __name__ == "__main__":
    job = given(sys.argv)
    measure = {"examples": of_examples, "logits": of_logits}[job.pop("what")]
    print(json.dumps(measure(**job)))
