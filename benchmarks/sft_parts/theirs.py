"""TRL's fine-tuning of a job's examples, padded or packed: losses by step and seconds in train().

Runs in TRL's own environment. It is given token ids and the mask of responses, so that it learns
from the very tokens that we do, in the same order.
"""

import json
import sys
from typing import Any

from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


class InOrder(SFTTrainer):
    """Reads its examples as they come."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def main(job: dict[str, Any]) -> None:
    rows = [
        {"input_ids": ids, "completion_mask": [0] * num_prompt + [1] * (len(ids) - num_prompt)}
        for ids, num_prompt in job["rows"]
    ]
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    trainer = InOrder(
        AutoModelForCausalLM.from_pretrained(job["folder"], dtype="float32"),
        args=SFTConfig(**job["settings"], completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    (runtime,) = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    print(json.dumps({"seconds": runtime, "losses": losses}))


if __name__ == "__main__":
    with open(sys.argv[1]) as opened:
        main(json.load(opened))
