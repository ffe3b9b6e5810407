"""What TRL makes of an export.

The data set is read as the README says and prepared by the form's own trainer, which trains a step.
"""

from typing import Any

import trl
from datasets import load_dataset
from forms_of import read_forms
from transformers import AutoTokenizer

TRAINERS = {"trl": "SFT", "trl-messages": "SFT", "trl-dpo": "DPO", "trl-kto": "KTO"}
MARKED = (  # as the README of trl-messages asks: the template marks what is trained on
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
)
SETTINGS = {
    "output_dir": "student",
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "max_length": 512,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
}


def said(row: dict[str, Any], form: str) -> Any:
    if form == "trl-messages":
        return row["messages"]
    if form == "trl-dpo":
        return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]
    whole = row["prompt"] + row["completion"]
    return [whole, row["label"]] if form == "trl-kto" else whole


def read(form: str, model: str) -> dict[str, Any]:
    train = load_dataset("parquet", data_files="train.parquet", split="train")
    rows = [said(row, form) for row in train]
    tokenizer = AutoTokenizer.from_pretrained(model)
    settings = dict(SETTINGS)
    if form == "trl-messages":
        tokenizer.chat_template = MARKED
        settings["assistant_only_loss"] = True
    kind = TRAINERS[form]
    trainer = getattr(trl, f"{kind}Trainer")(
        model,
        args=getattr(trl, f"{kind}Config")(**settings),
        train_dataset=train,
        processing_class=tokenizer,
    )
    loss = trainer.train().training_loss
    return {"rows": rows, "num_prepared": len(trainer.train_dataset), "loss": loss}


read_forms(read)
