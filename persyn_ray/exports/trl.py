"""Data as TRL's trainers read it: rows of a run in, Parquet for SFT, DPO and KTO out."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from persyn_ray.exports import columns
from persyn_ray.exports.columns import DATA, KEYS, PAIR_KEYS, SIDE_KEYS, keys
from persyn_ray.exports.form import Facts, Rows, Written, records
from persyn_ray.exports.preferences import Pairs
from persyn_ray.exports.settings import accumulation
from persyn_ray.exports.writing import write_parquet
from persyn_ray.storage.schemas import MESSAGES

_PROMPT, _COMPLETION = pa.field("prompt", MESSAGES), pa.field("completion", MESSAGES)
PROMPT_COMPLETION = pa.schema([_PROMPT, _COMPLETION, *KEYS])
PAIRS = pa.schema(
    [_PROMPT, pa.field("chosen", MESSAGES), pa.field("rejected", MESSAGES), *PAIR_KEYS]
)
LABELLED = pa.schema([_PROMPT, _COMPLETION, pa.field("label", pa.bool_()), *SIDE_KEYS])
HOW = """```python
from datasets import load_dataset
from trl import {trainer}Config, {trainer}Trainer

train = load_dataset("parquet", data_files="train.parquet", split="train")
arguments = {trainer}Config(output_dir="student", {settings})
{trainer}Trainer({student!r}, args=arguments, train_dataset=train).train()
```

Trained: {trained}."""


def prompt_completion(rows: Rows, where: Path, facts: Facts) -> Written:
    """Columns `prompt` and `completion`, both lists of messages: the loss is on the completion."""
    found = (
        {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} | keys(row)
        for row in records(rows, "train")
    )
    num_rows = write_parquet(where / DATA, found, PROMPT_COMPLETION)
    return Written((DATA,), num_rows, _how(facts, "SFT", "the teacher's response alone"))


def messages(rows: Rows, where: Path, facts: Facts) -> Written:
    """Column `messages`: the loss is on every turn of the assistant."""
    num_rows = write_parquet(where / DATA, columns.conversations(rows), columns.CONVERSATIONS)
    trained = (
        "every turn of the assistant, which needs a chat template with `{% generation %}`; form "
        "`trl` trains on the teacher's response alone and needs none"
    )
    how = _how(facts, "SFT", trained, ", assistant_only_loss=True")
    return Written((DATA,), num_rows, how)


def dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """Columns `prompt`, `chosen` and `rejected`, with the margin in reward."""
    pairs = Pairs(rows)
    found = (
        {"prompt": pair.prompt, "chosen": [pair.chosen], "rejected": [pair.rejected]}
        | columns.pair_keys(pair)
        for pair in pairs
    )
    num_rows = write_parquet(where / DATA, found, PAIRS)
    how = _how(facts, "DPO", "the best against the worst response of each prompt, by reward")
    return Written((DATA,), num_rows, how, pairs.left_out)


def kto(rows: Rows, where: Path, facts: Facts) -> Written:
    """Columns `prompt`, `completion` and `label`: the best is true, the worst false."""
    pairs = Pairs(rows)
    num_rows = write_parquet(where / DATA, _labelled(pairs), LABELLED)
    how = _how(facts, "KTO", "towards the best and away from the worst response of each prompt")
    return Written((DATA,), num_rows, how, pairs.left_out)


def _labelled(pairs: Pairs) -> Iterator[Mapping[str, object]]:
    for pair, response, label, of in columns.sides(pairs):
        yield {"prompt": pair.prompt, "completion": [response], "label": label} | of


def _how(facts: Facts, trainer: str, trained: str, more: str = "") -> str:
    finetune = facts.finetune
    settings = {
        "learning_rate": finetune.learning_rate,
        "num_train_epochs": finetune.epochs,
        "per_device_train_batch_size": finetune.micro_batch_size,
        "gradient_accumulation_steps": accumulation(finetune),
        "max_length": finetune.max_length,
    }
    named = ", ".join(f"{name}={value!r}" for name, value in settings.items()) + more
    student = facts.student.name
    return HOW.format(trainer=trainer, settings=named, student=student, trained=trained)
