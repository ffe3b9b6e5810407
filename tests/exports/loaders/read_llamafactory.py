"""What LLaMA-Factory makes of an export.

Its own functions read the YAML, dataset_info.json and the data, and prepare what is trained on.
"""

from typing import Any

import yaml
from forms_of import read_forms
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

STAGES = {"sft": "sft", "dpo": "rm", "kto": "kto"}


def said(row: dict[str, Any], form: str) -> Any:
    system = [{"role": "system", "content": row["_system"]}] if row["_system"] else []
    sides = [[*system, *row["_prompt"], one] for one in row["_response"]]
    if form.endswith("kto"):  # the side that is not there is empty
        label = bool(row["_response"][0]["content"])
        return [sides[0 if label else 1], label]
    return sides if form.endswith("dpo") else sides[0]


def read(form: str, model: str) -> dict[str, Any]:
    with open("train.yaml") as file:
        settings = yaml.safe_load(file) | {"model_name_or_path": model, "use_cpu": True}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(settings)
    stage = STAGES[finetuning_args.stage]
    merged = _get_merged_dataset(data_args.dataset, model_args, data_args, training_args, stage)
    modules = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(modules["tokenizer"], data_args)
    train = get_dataset(template, model_args, data_args, training_args, stage=stage, **modules)
    train = train["train_dataset"]
    found = {"rows": [said(row, form) for row in merged], "num_prepared": len(train)}
    if stage == "sft":
        labels = [[label for label in row["labels"] if label >= 0] for row in train]
        found["trained"] = [modules["tokenizer"].decode(row) for row in labels]
    return found


read_forms(read)
