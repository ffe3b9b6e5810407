"""Data as ms-swift reads it: rows of a run in, Parquet for `swift sft` and `swift rlhf` out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote

import pyarrow as pa

from persyn_ray.exports import columns
from persyn_ray.exports.columns import CONVERSATIONS, DATA, PAIR_KEYS, SIDE_KEYS
from persyn_ray.exports.form import Facts, Rows, Written
from persyn_ray.exports.preferences import Pairs
from persyn_ray.exports.settings import accumulation
from persyn_ray.exports.writing import write_parquet
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.storage.schemas import MESSAGES

_MESSAGES = pa.field("messages", MESSAGES)
PAIRS = pa.schema([_MESSAGES, pa.field("rejected_response", pa.string()), *PAIR_KEYS])
LABELLED = pa.schema([_MESSAGES, pa.field("label", pa.bool_()), *SIDE_KEYS])


def sft(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations; `--loss_scale last_round` puts the loss on the teacher's response."""
    num_rows = write_parquet(where / DATA, columns.conversations(rows), CONVERSATIONS)
    return Written((DATA,), num_rows, _how(facts, "sft", "--loss_scale last_round"))


def dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations that end in the best response, and the worst as `rejected_response`."""
    pairs = Pairs(rows)
    num_rows = write_parquet(where / DATA, _ranked(pairs), PAIRS)
    return Written((DATA,), num_rows, _how(facts, "rlhf", "--rlhf_type dpo"), pairs.left_out)


def kto(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations with a label: the best response of a prompt is true, its worst false."""
    pairs = Pairs(rows)
    num_rows = write_parquet(where / DATA, _labelled(pairs), LABELLED)
    return Written((DATA,), num_rows, _how(facts, "rlhf", "--rlhf_type kto"), pairs.left_out)


def _ranked(pairs: Pairs) -> Iterator[Mapping[str, object]]:
    for pair in pairs:
        said = {"messages": [*pair.prompt, pair.chosen]}
        yield said | {"rejected_response": pair.rejected["content"]} | columns.pair_keys(pair)


def _labelled(pairs: Pairs) -> Iterator[Mapping[str, object]]:
    for pair, response, label, of in columns.sides(pairs):
        yield {"messages": [*pair.prompt, response], "label": label} | of


def _how(facts: Facts, command: str, options: str) -> str:
    finetune = facts.finetune
    return f"""```
swift {command} {options} --use_hf true --model {quote(facts.student.name)} \\
  --dataset train.parquet --split_dataset_ratio 0 --output_dir student \\
  --tuner_type {"lora" if isinstance(finetune.lora, LoraConfig) else "full"} \\
  --num_train_epochs {finetune.epochs:g} --learning_rate {finetune.learning_rate:g} \\
  --per_device_train_batch_size {finetune.micro_batch_size} \\
  --gradient_accumulation_steps {accumulation(finetune)} --max_length {finetune.max_length}
```"""
