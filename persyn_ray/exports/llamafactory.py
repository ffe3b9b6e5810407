"""Data as LLaMA-Factory reads it: ShareGPT in Parquet, dataset_info.json and a YAML that trains.

Its loader skips conversations in which user and assistant do not take turns; they are left out here
and counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from persyn_ray.exports import columns
from persyn_ray.exports.columns import DATA, KEYS, PAIR_KEYS, SIDE_KEYS, Row, keys
from persyn_ray.exports.form import Facts, Message, Rows, Written, records
from persyn_ray.exports.preferences import Pair, Pairs
from persyn_ray.exports.settings import SCHEDULES, accumulation
from persyn_ray.exports.writing import write_json, write_parquet, write_yaml
from persyn_ray.recipe.router import LoraConfig

TURN = pa.struct([pa.field("from", pa.string()), pa.field("value", pa.string())])
_CONVERSATIONS = pa.field("conversations", pa.list_(TURN))
SHAREGPT = pa.schema([_CONVERSATIONS, *KEYS])
RANKED = pa.schema(
    [_CONVERSATIONS, pa.field("chosen", TURN), pa.field("rejected", TURN), *PAIR_KEYS]
)
LABELLED = pa.schema([_CONVERSATIONS, pa.field("label", pa.bool_()), *SIDE_KEYS])
NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
NO_TURNS = "conversations in which user and assistant do not take turns, which the loader skips"
INFO, YAML = "dataset_info.json", "train.yaml"
COMMENT = """llamafactory-cli train train.yaml, in this folder. The prompt's form is read from the
tokenizer's chat template; `template: NAME` takes one of LLaMA-Factory's own."""


@dataclass
class _Turns:
    """Conversations that the loader takes, and how many it would skip."""

    left_out: dict[str, int] = field(default_factory=lambda: {NO_TURNS: 0})

    def fit(self, messages: list[Message]) -> bool:
        is_fit = columns.alternates(messages)
        self.left_out[NO_TURNS] += not is_fit
        return is_fit


def sft(rows: Rows, where: Path, facts: Facts) -> Written:
    """ShareGPT conversations; the loss is on the teacher's response (`mask_history`)."""
    turns = _Turns()
    found = (
        {"conversations": [_turn(one) for one in row["messages"]]} | keys(row)
        for row in records(rows, "train")
        if turns.fit(row["messages"])
    )
    num_rows = write_parquet(where / DATA, found, SHAREGPT)
    info = {"columns": {"messages": "conversations"}}
    return _written(
        where, facts, info, {"stage": "sft", "mask_history": True}, num_rows, turns.left_out
    )


def dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """Ranked pairs: the best response of a prompt against its worst."""
    turns, pairs = _Turns(), Pairs(rows)
    num_rows = write_parquet(where / DATA, _ranked(pairs, turns), RANKED)
    named = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    info = {"ranking": True, "columns": named}
    stage = {"stage": "dpo", "pref_loss": "sigmoid", "pref_beta": 0.1}
    return _written(where, facts, info, stage, num_rows, pairs.left_out | turns.left_out)


def kto(rows: Rows, where: Path, facts: Facts) -> Written:
    """Labelled responses: the best of a prompt is true, its worst false."""
    turns, pairs = _Turns(), Pairs(rows)
    num_rows = write_parquet(where / DATA, _labelled(pairs, turns), LABELLED)
    info = {"columns": {"messages": "conversations", "kto_tag": "label"}}
    stage = {"stage": "kto", "pref_beta": 0.1}
    return _written(where, facts, info, stage, num_rows, pairs.left_out | turns.left_out)


def _ranked(pairs: Pairs, turns: _Turns) -> Iterator[Mapping[str, object]]:
    for pair in pairs:
        if turns.fit([*pair.prompt, pair.chosen]):
            sides = {"chosen": _turn(pair.chosen), "rejected": _turn(pair.rejected)}
            yield {"conversations": _prompt(pair)} | sides | columns.pair_keys(pair)


def _labelled(pairs: Pairs, turns: _Turns) -> Iterator[Mapping[str, object]]:
    for pair, response, label, of in columns.sides(pairs):
        if turns.fit([*pair.prompt, response]):
            yield {"conversations": [*_prompt(pair), _turn(response)], "label": label} | of


def _prompt(pair: Pair) -> list[Row]:
    return [_turn(message) for message in pair.prompt]


def _turn(message: Message) -> Row:
    return {"from": NAMES.get(message["role"], message["role"]), "value": message["content"]}


def _written(
    where: Path,
    facts: Facts,
    info: Mapping[str, object],
    stage: Row,
    num_rows: int,
    left_out: dict[str, int],
) -> Written:
    entry = {"file_name": DATA, "formatting": "sharegpt", **info}
    write_json(where / INFO, {"persyn": entry})
    write_yaml(where / YAML, _settings(facts, stage), COMMENT)
    how = "```\nllamafactory-cli train train.yaml\n```"
    return Written((DATA, INFO, YAML), num_rows, how, left_out)


def _settings(facts: Facts, stage: Row) -> Row:
    """The recipe's settings of fine-tuning under LLaMA-Factory's names."""
    finetune, student = facts.finetune, facts.student
    revision = {"model_revision": student.revision} if student.revision else {}
    length = {"max_steps": finetune.max_steps} if finetune.max_steps else {}
    lora = {}
    if isinstance(finetune.lora, LoraConfig):
        lora = {"lora_rank": finetune.lora.rank, "lora_alpha": finetune.lora.lora_alpha}
    return {
        "model_name_or_path": student.name,
        **revision,
        **stage,
        "do_train": True,
        "finetuning_type": "lora" if lora else "full",
        **lora,
        "dataset": "persyn",
        "dataset_dir": ".",
        "cutoff_len": finetune.max_length,
        "output_dir": "student",
        "num_train_epochs": finetune.epochs,
        **length,
        "learning_rate": finetune.learning_rate,
        "lr_scheduler_type": SCHEDULES[finetune.schedule],
        "warmup_ratio": finetune.warmup_ratio,
        "weight_decay": finetune.weight_decay,
        "per_device_train_batch_size": finetune.micro_batch_size,
        "gradient_accumulation_steps": accumulation(finetune),
        "bf16": finetune.dtype == "bfloat16",
        "seed": finetune.seed,
        "save_steps": finetune.save_steps,
        "report_to": "none",
    }
