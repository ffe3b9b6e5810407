"""Data as torchtune reads it: Parquet of conversations or pairs, and `dataset` of a config."""

from pathlib import Path

import pyarrow as pa

from persyn_ray.exports import columns
from persyn_ray.exports.columns import CONVERSATIONS, DATA, PAIR_KEYS
from persyn_ray.exports.form import Facts, Rows, Written
from persyn_ray.exports.preferences import Pairs
from persyn_ray.exports.writing import write_parquet, write_yaml
from persyn_ray.storage.schemas import MESSAGES

PAIRS = pa.schema([pa.field("chosen", MESSAGES), pa.field("rejected", MESSAGES), *PAIR_KEYS])
YAML = "dataset.yaml"
COMMENT = "Put this in place of `dataset` in a config of torchtune; run it in this folder."
HOW = """`dataset.yaml` holds what stands under `dataset` in a config of torchtune, such as that of
`tune run {recipe} --config …`. The loss is on {trained}."""


def sft(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations for `torchtune.datasets.chat_dataset`."""
    num_rows = write_parquet(where / DATA, columns.conversations(rows), CONVERSATIONS)
    named = {"conversation_column": "messages", "conversation_style": "openai"}
    _write(where, {"_component_": "torchtune.datasets.chat_dataset"}, named)
    how = HOW.format(recipe="full_finetune_single_device", trained="every turn of the assistant")
    return Written((DATA, YAML), num_rows, how)


def dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """Pairs of whole conversations for `torchtune.datasets.preference_dataset`."""
    pairs = Pairs(rows)
    found = (
        {"chosen": [*pair.prompt, pair.chosen], "rejected": [*pair.prompt, pair.rejected]}
        | columns.pair_keys(pair)
        for pair in pairs
    )
    num_rows = write_parquet(where / DATA, found, PAIRS)
    _write(where, {"_component_": "torchtune.datasets.preference_dataset"}, {})
    how = HOW.format(recipe="full_dpo_distributed", trained="chosen against rejected")
    return Written((DATA, YAML), num_rows, how, pairs.left_out)


def _write(where: Path, component: dict[str, str], more: dict[str, str]) -> None:
    source = {"source": "parquet", "data_files": DATA, "split": "train"}
    write_yaml(where / YAML, {"dataset": component | source | more}, COMMENT)
