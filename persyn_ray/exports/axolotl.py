"""Data as axolotl reads it: conversations in Parquet and a YAML for SFT or DPO."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from persyn_ray.exports import columns
from persyn_ray.exports.columns import DATA, KEYS, PAIR_KEYS, Row, keys
from persyn_ray.exports.form import Facts, Rows, Written, records
from persyn_ray.exports.preferences import Pairs
from persyn_ray.exports.settings import SCHEDULES, accumulation
from persyn_ray.exports.writing import write_parquet, write_yaml
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.storage.schemas import MESSAGES

MESSAGE = MESSAGES.value_type
TRAINED_MESSAGES = pa.list_(pa.struct([*MESSAGE, pa.field("train", pa.bool_())]))
TRAINED = pa.schema([pa.field("messages", TRAINED_MESSAGES), *KEYS])
PAIRS = pa.schema(
    [
        pa.field("messages", MESSAGES),
        pa.field("chosen", MESSAGE),
        pa.field("rejected", MESSAGE),
        *PAIR_KEYS,
    ]
)
YAML = "train.yaml"
COMMENT = "axolotl train train.yaml, in this folder."


def sft(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations; each message says whether it is trained on, and the last alone is."""
    num_rows = write_parquet(where / DATA, _trained(rows), TRAINED)
    source = {
        "type": "chat_template",
        "field_messages": "messages",
        "roles_to_train": [],
        "message_field_training": "train",
    }
    return _written(where, facts, source, {}, num_rows, {})


def dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """Pairs: the best response of a prompt against its worst."""
    pairs = Pairs(rows)
    found = (
        {"messages": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        | columns.pair_keys(pair)
        for pair in pairs
    )
    num_rows = write_parquet(where / DATA, found, PAIRS)
    source = {"type": "chat_template.default", "field_messages": "messages"}
    return _written(where, facts, source, {"rl": "dpo"}, num_rows, pairs.left_out)


def _trained(rows: Rows) -> Iterator[Mapping[str, object]]:
    for row in records(rows, "train"):
        last = len(row["messages"]) - 1
        turns = [turn | {"train": place == last} for place, turn in enumerate(row["messages"])]
        yield {"messages": turns} | keys(row)


def _written(
    where: Path,
    facts: Facts,
    source: Mapping[str, object],
    more: Row,
    num_rows: int,
    left_out: dict[str, int],
) -> Written:
    settings = _settings(facts, {"path": DATA, "ds_type": "parquet", "split": "train", **source})
    write_yaml(where / YAML, settings | more, COMMENT)
    return Written((DATA, YAML), num_rows, "```\naxolotl train train.yaml\n```", left_out)


def _settings(facts: Facts, source: Row) -> Row:
    """The recipe's settings of fine-tuning under axolotl's names."""
    finetune, student = facts.finetune, facts.student
    revision = {"revision_of_model": student.revision} if student.revision else {}
    length = {"max_steps": finetune.max_steps} if finetune.max_steps else {}
    lora = {}
    if isinstance(finetune.lora, LoraConfig):
        of = finetune.lora
        lora = {"adapter": "lora", "lora_r": of.rank, "lora_alpha": of.lora_alpha}
        lora |= {"lora_target_linear": True}
    return {
        "base_model": student.name,
        **revision,
        **lora,
        "datasets": [source],
        "chat_template": "tokenizer_default",
        "sequence_len": finetune.max_length,
        "output_dir": "student",
        "num_epochs": finetune.epochs,
        **length,
        "learning_rate": finetune.learning_rate,
        "lr_scheduler": SCHEDULES[finetune.schedule],
        "warmup_ratio": finetune.warmup_ratio,
        "weight_decay": finetune.weight_decay,
        "optimizer": "adamw_torch",
        "micro_batch_size": finetune.micro_batch_size,
        "gradient_accumulation_steps": accumulation(finetune),
        "bf16": finetune.dtype == "bfloat16",
        "seed": finetune.seed,
        "save_steps": finetune.save_steps,
    }
