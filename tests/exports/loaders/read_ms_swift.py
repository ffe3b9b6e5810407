"""What ms-swift makes of an export: its own `load_dataset`, which refuses what it cannot read."""

from typing import Any

from forms_of import read_forms
from swift.dataset import load_dataset


def said(row: dict[str, Any], form: str) -> Any:
    messages = [{name: turn[name] for name in ("role", "content")} for turn in row["messages"]]
    if form.endswith("dpo"):
        rejected = {"role": "assistant", "content": row["rejected_response"]}
        return [messages, [*messages[:-1], rejected]]
    return [messages, row["label"]] if form.endswith("kto") else messages


def read(form: str, model: str) -> dict[str, Any]:
    train, _ = load_dataset(["train.parquet"], strict=True, use_hf=True)
    return {"rows": [said(row, form) for row in train], "num_prepared": len(train)}


read_forms(read)
