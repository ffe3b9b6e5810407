"""TRL's fine-tuning of a job's examples, padded or packed: losses by step and seconds of its steps.

Runs in TRL's own environment. It is given token ids and the mask of responses, so that it learns
from the very tokens that we do; in the order that it draws, or in ours.
"""

import json
import sys
import time
from typing import Any

from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Counting(SFTTrainer):
    """Counts the tokens that it reads, padding included."""

    tokens_read = 0

    def training_step(self, model: Any, inputs: Any, *given: Any, **settings: Any) -> Any:
        self.tokens_read += inputs["input_ids"].numel()
        return super().training_step(model, inputs, *given, **settings)


class InOrder(Counting):
    """Reads its examples as they come."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


class Clock(TrainerCallback):
    """Takes the seconds from the start of training to the end of its last step, as ours does."""

    started = ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended = time.perf_counter()


def main(job: dict[str, Any]) -> None:
    rows = [
        {"input_ids": ids, "completion_mask": [0] * num_prompt + [1] * (len(ids) - num_prompt)}
        for ids, num_prompt in job["rows"]
    ]
    kind, clock = InOrder if job["in_our_order"] else Counting, Clock()
    trainer = kind(
        AutoModelForCausalLM.from_pretrained(job["folder"], dtype="float32"),
        args=SFTConfig(**job["settings"], completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job["folder"]),
        callbacks=[clock],
    )
    trainer.train()
    found = {
        "seconds": clock.ended - clock.started,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "tokens_read": trainer.tokens_read,
        "packs_or_examples": len(trainer.train_dataset),  # type: ignore[arg-type]
    }
    print(json.dumps(found))


if __name__ == "__main__":
    with open(sys.argv[1]) as opened:
        main(json.load(opened))
