"""JSON Lines of conversations and of ranked responses, as NeMo-RL and services read them."""

from pathlib import Path

from persyn_ray.exports import columns
from persyn_ray.exports.form import Facts, Rows, Written
from persyn_ray.exports.preferences import Pair, Pairs
from persyn_ray.exports.writing import write_jsonl, write_yaml

DATA, YAML = "train.jsonl", "data.yaml"
COMMENT = """Put this in place of `data` in a config of NeMo-RL, with data_path as seen from there.
use_preserving_dataset reads each line as JSON; otherwise texts that are all dates become dates."""
HOW = "`data.yaml` holds what stands under `data` in a config of `examples/{script}`."


def chat(rows: Rows, where: Path, facts: Facts) -> Written:
    """`messages` a line, and where the row comes from."""
    num_rows = write_jsonl(where / DATA, columns.conversations(rows))
    return Written((DATA,), num_rows, "One conversation a line, under `messages`.")


def nemo_rl_sft(rows: Rows, where: Path, facts: Facts) -> Written:
    """`messages` a line, for NeMo-RL's OpenAIFormatDataset."""
    num_rows = write_jsonl(where / DATA, columns.conversations(rows))
    source = {"dataset_name": "openai_format", "data_path": DATA, "chat_key": "messages"}
    source |= {"use_preserving_dataset": True}
    settings = {"max_input_seq_length": facts.finetune.max_length, "train": source}
    write_yaml(where / YAML, {"data": settings}, COMMENT)
    return Written((DATA, YAML), num_rows, HOW.format(script="run_sft.py"))


def nemo_rl_dpo(rows: Rows, where: Path, facts: Facts) -> Written:
    """`context` and ranked `completions` a line, for NeMo-RL's PreferenceDataset."""
    pairs = Pairs(rows)
    num_rows = write_jsonl(where / DATA, map(_ranked, pairs))
    source = {"dataset_name": "PreferenceDataset", "data_path": DATA}
    settings = {"max_input_seq_length": facts.finetune.max_length, "train": source}
    write_yaml(where / YAML, {"data": settings}, COMMENT.splitlines()[0])
    return Written((DATA, YAML), num_rows, HOW.format(script="run_dpo.py"), pairs.left_out)


def _ranked(pair: Pair) -> columns.Row:
    ranked = [
        {"rank": rank, "completion": [response]}
        for rank, response in enumerate((pair.chosen, pair.rejected))
    ]
    return {"context": pair.prompt, "completions": ranked} | columns.pair_keys(pair)
